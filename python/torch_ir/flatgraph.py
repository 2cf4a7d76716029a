"""Flattens the traced graph into a list of calls.

Bodies of ``no_grad`` and disabled autocast regions are inlined, trace-time assertions dropped, and tied weights
merged. The result is a list of operator calls on values, and control flow with its own bodies.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from .errors import ConversionError
from .provenance import module_path_of, source_of

HIGHER_ORDER = torch.ops.higher_order
CONTROL_FLOW = {
    "cond": ("true_graph", "false_graph"),
    "while_loop": ("cond_graph", "body_graph"),
}
_ASSERTIONS = frozenset(
    {
        "aten._assert_tensor_metadata.default",
        "aten._assert_scalar.default",
        "aten.sym_constrain_range.default",
        "aten.sym_constrain_range_for_size.default",
    }
)
_TRANSFORMS = "torch._functorch.predispatch"
_PART_OF_SUBCLASS = "export.access_subclass_inner_tensor.default"


class NeedsRetraceError(Exception):
    """torch must functionalize the graph before it can be flattened."""


@dataclass(eq=False)
class Value:
    """One tensor. ``kind`` is input, weight or result."""

    name: str
    fake: Any
    kind: str
    call: Call | None = None
    index: int = 0


@dataclass(eq=False)
class Call:
    """One operator call. ``args`` and ``kwargs`` contain Values in place of the trace's nodes."""

    name: str
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Value | None] = field(default_factory=list)
    module_path: str | None = None
    source: str | None = None
    bodies: dict[str, FlatGraph] = field(default_factory=dict)

    def inputs(self) -> Iterable[Value]:
        values: list[Value] = []
        map_values((self.args, self.kwargs), values.append)
        return values


@dataclass(eq=False)
class FlatGraph:
    inputs: list[Value]
    calls: list[Call]
    outputs: list[Any]
    by_placeholder: dict[str, Value] = field(default_factory=dict)
    parts: dict[Value, dict[str, Value]] = field(default_factory=dict)
    """The tensors that a weight consists of, by attribute, if it is of a tensor subclass such as torchao's."""


def map_values(tree: Any, fn: Callable[[Value], Any]) -> Any:
    """Apply fn to every Value in nested lists, tuples, dicts and slices."""
    if isinstance(tree, Value):
        return fn(tree)
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_values(x, fn) for x in tree)
    if isinstance(tree, dict):
        return {k: map_values(v, fn) for k, v in tree.items()}
    return tree


def flatten(graph_module: fx.GraphModule, kinds: dict[str, str], same_as: dict[str, str]) -> FlatGraph:
    """``kinds`` maps placeholders to input or weight; ``same_as`` maps tied placeholders to the first of them."""
    return _Flattener(graph_module).run(kinds, same_as)


class _Flattener:
    def __init__(self, graph_module: fx.GraphModule) -> None:
        self.root = graph_module
        self.calls: list[Call] = []
        self.parts: dict[Value, dict[str, Value]] = {}
        # The names of inlined regions may be used again for their contents.
        self.names = {n.name for n in graph_module.graph.nodes if not _vanishes(n)}

    def run(self, kinds: dict[str, str], same_as: dict[str, str]) -> FlatGraph:
        env: dict[fx.Node, Any] = {}
        by_name: dict[str, Value] = {}
        for node in self.root.graph.nodes:
            if node.op == "placeholder":
                first = by_name.get(same_as.get(node.name, ""))
                value = first or Value(node.name, node.meta.get("val"), kinds.get(node.name, "input"))
                env[node] = by_name[node.name] = value
        outputs = self._walk(self.root, env)
        inputs = [v for v in by_name.values() if v.kind == "input"]
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        by_name |= {part.name: part for parts in self.parts.values() for part in parts.values()}
        return FlatGraph(inputs, self.calls, outputs, by_name, self.parts)

    def _walk(self, module: fx.GraphModule, env: dict[fx.Node, Any], inlined: bool = False) -> Any:
        for node in module.graph.nodes:
            if node.op == "output":
                return _resolve(node.args[0], env)
            if node.op == "get_attr":
                env[node] = _attribute(module, node)
            elif node.op == "call_function":
                env[node] = self._call(module, node, env, inlined)
            elif node.op != "placeholder":
                raise ConversionError(f"Node '{node.name}': unexpected {node.op} in an exported graph")
        raise ConversionError("The exported graph has no output node")

    def _call(self, module: fx.GraphModule, node: fx.Node, env: dict[fx.Node, Any], inlined: bool) -> Any:
        if str(node.target) in _ASSERTIONS:
            return None
        args, kwargs = _resolve(node.args, env), _resolve(dict(node.kwargs), env)
        if node.target is operator.getitem and isinstance(args[0], Region):
            return args[0].results[args[1]]
        if node.target is operator.getitem and isinstance(args[0], Results):
            args = (list(args[0].call.outputs), args[1])
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return self._higher_order(node, args, kwargs)
        if str(node.target) == _PART_OF_SUBCLASS:
            return self._part(node, *args)
        return self._record(node, args, kwargs, inlined)

    def _record(self, node: fx.Node, args: Any, kwargs: Any, inlined: bool) -> Any:
        if getattr(node.target, "__module__", "") == _TRANSFORMS:
            raise ConversionError(
                f"Node '{node.name}' ({_where(node)}) is part of torch.vmap or of a transform of torch.func, which IR "
                f"cannot hold; write that part with ordinary operators on whole batches"
            )
        val = node.meta.get("val")
        if is_open_size(val):
            return val  # arithmetic of sizes is not a call: readers have its expression
        name = self._unique(node.name) if inlined else node.name
        call = Call(name, node.target, args, kwargs, [], module_path_of(node), source_of(node))
        self.calls.append(call)
        if isinstance(val, (list, tuple)):
            if any(isinstance(v, (list, tuple)) for v in val):
                raise ConversionError(
                    f"Node '{name}' ({_where(node)}) calls {node.target}, which returns a list among its results; IR "
                    f"holds a tensor or one list of tensors"
                )
            call.outputs = [
                Value(f"{name}_{i}", v, "result", call, i) if isinstance(v, torch.Tensor) else None
                for i, v in enumerate(val)
            ]
            return Results(call)
        if val is None:
            return None
        value = Value(name, val, "result", call)
        call.outputs = [value]
        return value

    def _part(self, node: fx.Node, whole: Value, attribute: str) -> Value:
        if whole.kind != "weight":
            raise ConversionError(
                f"Node '{node.name}' ({_where(node)}) reads '{attribute}' of '{whole.name}', a tensor of a subclass "
                f"that is not a weight of the model; expected a parameter or a buffer"
            )
        parts = self.parts.setdefault(whole, {})
        if attribute not in parts:
            name = self._unique(f"{whole.name}_{attribute}")
            parts[attribute] = Value(name, node.meta.get("val"), "weight")
        return parts[attribute]

    def _higher_order(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        kind = str(node.target)
        if kind == "wrap_with_autocast" and args[2] is not False:
            raise NeedsRetraceError(f"node '{node.name}' is an enabled autocast region")
        if kind in REGIONS:
            body, operands = REGIONS[kind](args)
            return self._inline(node, body, operands)
        if kind in CONTROL_FLOW:
            return self._control_flow(node, kind, args)
        raise ConversionError(
            f"Node '{node.name}' ({_where(node)}) is the higher-order op '{kind}', which IR cannot hold; "
            f"IR holds {', '.join(sorted(CONTROL_FLOW))} and inlines {', '.join(sorted(REGIONS))}"
        )

    def _inline(self, node: fx.Node, body: fx.GraphModule, operands: Any) -> Region:
        placeholders = [n for n in body.graph.nodes if n.op == "placeholder"]
        if len(placeholders) != len(operands):
            raise ConversionError(f"Node '{node.name}': region takes {len(placeholders)} operands, got {len(operands)}")
        results = self._walk(body, dict(zip(placeholders, operands, strict=True)), inlined=True)
        return Region(list(results) if isinstance(results, (list, tuple)) else [results])

    def _control_flow(self, node: fx.Node, kind: str, args: Any) -> Any:
        bodies, operands = args[1:3], args[3]
        if kind == "while_loop":
            bodies, operands = args[0:2], (*args[2], *args[3])
            head: tuple[Any, ...] = ()
        else:
            head = (args[0],)
        flat = {role: flatten(body, {}, {}) for role, body in zip(CONTROL_FLOW[kind], bodies, strict=True)}
        result = self._record(node, (*head, *operands), {}, inlined=False)
        self.calls[-1].bodies = flat
        if kind == "while_loop":
            self.calls[-1].kwargs = {"num_carried": len(args[2])}
        return result

    def _unique(self, name: str) -> str:
        candidate, n = name, 1
        while candidate in self.names:
            candidate, n = f"{name}_{n}", n + 1
        self.names.add(candidate)
        return candidate


@dataclass
class Region:
    """The result of an inlined region."""

    results: list[Any]


@dataclass
class Results:
    """The results of a call with several outputs."""

    call: Call


REGIONS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "wrap_with_set_grad_enabled": lambda a: (a[1], a[2:]),
    "wrap_with_autocast": lambda a: (a[4], a[5:]),
    "wrap": lambda a: (a[0], a[1:]),
    "hints_wrapper": lambda a: (a[0], a[1]),
    "invoke_subgraph": lambda a: (a[0], a[2:]),
    "tag_activation_checkpoint": lambda a: (a[0], a[1:]),
}


def is_open_size(value: Any) -> bool:
    """Whether this is a number that follows from the sizes of the inputs alone."""
    if not isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        return False
    symbols = value.node.expr.free_symbols
    return bool(symbols) and not any(str(s).startswith(("u", "zuf")) for s in symbols)


def _vanishes(node: fx.Node) -> bool:
    target = node.args[0] if node.target is operator.getitem and node.args else node
    return isinstance(target, fx.Node) and str(target.target) in REGIONS


def _resolve(tree: Any, env: dict[fx.Node, Any]) -> Any:
    if isinstance(tree, fx.Node):
        return env[tree]
    if isinstance(tree, (list, tuple)):
        items = [_resolve(x, env) for x in tree]
        return items if isinstance(tree, list) else tuple(items)
    if isinstance(tree, dict):
        return {k: _resolve(v, env) for k, v in tree.items()}
    return tree


def _attribute(module: fx.GraphModule, node: fx.Node) -> Any:
    attribute: Any = module
    for part in str(node.target).split("."):
        attribute = getattr(attribute, part)
    if isinstance(attribute, torch.Tensor):
        raise ConversionError(
            f"Node '{node.name}' reads the tensor attribute '{node.target}', which the export did not lift; "
            f"register it as a buffer"
        )
    return attribute


def _where(node: fx.Node) -> str:
    return source_of(node) or module_path_of(node) or "no source known"
