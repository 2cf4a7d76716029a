"""Reads an exported program: its inputs, outputs, weights and calls, under the IR's names."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument

from ._encoding import dtype_to_str as _dtype_to_str
from .errors import ConversionError
from .flatgraph import Call, FlatGraph, NeedsRetraceError, Value, flatten
from .functionalize import functionalize
from .ir import Mutation, TensorMeta
from .ops.aten_ops import get_op_type
from .ops.schemas import arguments_of
from .overlaps import overlapping_weights
from .shapes import shape_of
from .symbols import Symbols

__all__ = ["GraphAnalyzer", "NodeInfo", "_dtype_to_str"]

_WEIGHT_KINDS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
_MUTATION_KINDS = {
    OutputKind.BUFFER_MUTATION: "buffer",
    getattr(OutputKind, "PARAMETER_MUTATION", None): "parameter",
    OutputKind.USER_INPUT_MUTATION: "input",
}
_INPUT_MUTATION_KINDS = {
    InputKind.PARAMETER: "parameter",
    InputKind.BUFFER: "buffer",
    InputKind.CONSTANT_TENSOR: "constant",
    InputKind.USER_INPUT: "input",
}


@dataclass
class NodeInfo:
    """One call, as passed to conversion functions."""

    name: str
    op: str
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    input_metas: list[TensorMeta]
    output_metas: list[TensorMeta]
    attrs: dict[str, Any]
    absent_inputs: list[str] = field(default_factory=list)
    module_path: str | None = None
    source: str | None = None
    bodies: dict[str, FlatGraph] = field(default_factory=dict)


class GraphAnalyzer:
    """The contents of an exported program, with regions inlined, in-place ops made functional, and ties merged."""

    def __init__(self, exported: ExportedProgram, symbols: Symbols | None = None) -> None:
        self.exported, self.symbols = exported, symbols or Symbols()
        try:
            self._read(exported)
        except NeedsRetraceError as first:
            try:
                self._read(_functional_form(exported))
            except ConversionError:
                raise
            except Exception as e:  # torch may raise anything here
                for one, other in overlapping_weights(exported):
                    raise ConversionError(
                        f"Cannot make the graph functional, because {first}, and '{other.target}' shares memory with "
                        f"'{one.target}'; register one of them, and take a view of it in forward"
                    ) from e
                raise ConversionError(f"Cannot make the graph functional: {e} (because {first})") from e
            self._check_functional_form()

    def _read(self, exported: ExportedProgram) -> None:
        self.graph_module = exported.graph_module
        self.graph = exported.graph
        self.graph_signature = exported.graph_signature
        self._tied, same_as = _find_ties(exported)
        specs = exported.graph_signature.input_specs
        kinds = {
            s.arg.name: "weight"
            if s.kind in _WEIGHT_KINDS
            else "input"
            if isinstance(s.arg, TensorArgument)
            else "other"
            for s in specs
            if hasattr(s.arg, "name")
        }
        self.flat = flatten(self.graph_module, kinds, same_as)
        self.ties = self._ties_of_parts(self._tied)
        self._written = functionalize(self.flat, lambda: overlapping_weights(exported))
        self._outputs = dict(enumerate(self.flat.outputs))

    def _check_functional_form(self) -> None:
        """Refuse copies into a buffer that broadcast or cast: torch drops them, which changes results."""
        targets = {
            s.target or s.arg.name: s.arg.name for s in self.graph_signature.input_specs if hasattr(s.arg, "name")
        }
        for position, spec in enumerate(self.graph_signature.output_specs):
            value = self._outputs.get(position)
            if spec.kind not in _MUTATION_KINDS or not isinstance(value, Value):
                continue
            target = self.flat.by_placeholder[targets[spec.target or ""]].fake
            if (target.shape, target.dtype) != (value.fake.shape, value.fake.dtype):
                raise ConversionError(
                    f"'{spec.target}' is {target.dtype} {list(target.shape)}, but is written with '{value.name}', "
                    f"which is {value.fake.dtype} {list(value.fake.shape)}; write `x.copy_(y.expand_as(x).to(x.dtype))`"
                )

    def get_graph_inputs(self) -> list[TensorMeta]:
        return [
            self._meta(self.flat.by_placeholder[spec.arg.name])
            for spec in self.graph_signature.input_specs
            if spec.kind == InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument)
        ]

    def user_outputs(self) -> list[Value | Any]:
        """The leaves of the model's output: Values, and constants that the model returned."""
        leaves: list[Any] = []
        for position, spec in enumerate(self.graph_signature.output_specs):
            if spec.kind == OutputKind.USER_OUTPUT:
                is_constant = isinstance(spec.arg, ConstantArgument)
                leaves.append(spec.arg.value if is_constant else self._outputs.get(position))
        return leaves

    def get_graph_outputs(self) -> list[TensorMeta]:
        outputs = [v for v in self.user_outputs() if isinstance(v, Value)]
        for value in outputs:
            layout = getattr(value.fake, "layout", torch.strided)
            if layout != torch.strided:
                raise ConversionError(
                    f"The model returns '{value.name}', a {layout} tensor, which an IR cannot hold; return "
                    f"{value.name}.to_dense()"
                )
        return [self._meta(v) for v in outputs]

    def get_weights(self) -> list[TensorMeta]:
        weights: dict[str, TensorMeta] = {}
        for name, value in self._weights():
            shape = shape_of(value.fake, f"weight '{name}'", self.exported, self.symbols)
            weights[name] = TensorMeta(name, shape, _dtype_to_str(value.fake.dtype))
        return list(weights.values())

    def get_weight_name_mapping(self) -> dict[str, str]:
        return {value.name: name for name, value in self._weights()}

    def _weights(self) -> Iterator[tuple[str, Value]]:
        """By their names in the model, with a name for each tensor of those that consist of several."""
        for spec in self.graph_signature.input_specs:
            if spec.kind in _WEIGHT_KINDS and spec.target not in self._tied:
                yield from self._parts(spec.target, self.flat.by_placeholder[spec.arg.name])

    def _parts(self, name: str, value: Value) -> Iterator[tuple[str, Value]]:
        if value not in self.flat.parts:
            yield name, value
        for attribute, part in self.flat.parts.get(value, {}).items():
            yield from self._parts(f"{name}.{attribute}", part)

    def _ties_of_parts(self, ties: dict[str, str]) -> dict[str, str]:
        values = {s.target: self.flat.by_placeholder[s.arg.name] for s in self.graph_signature.input_specs if s.target}
        return {
            alias + name: first + name for alias, first in ties.items() for name, _ in self._parts("", values[first])
        }

    def get_mutations(self) -> list[Mutation]:
        """Tensors that the model writes in place, with their final values."""
        mutations = []
        for position, spec in enumerate(self.graph_signature.output_specs):
            kind = _MUTATION_KINDS.get(spec.kind)
            value = self._outputs.get(position)
            if kind and spec.target is not None and isinstance(value, Value):
                mutations.append(Mutation(self.ties.get(spec.target, spec.target), kind, self._input_meta(value)))
        by_placeholder = {s.arg.name: s for s in self.graph_signature.input_specs if hasattr(s.arg, "name")}
        for placeholder, value in self._written:
            spec = by_placeholder[placeholder.name]
            target = spec.target if spec.target is not None else placeholder.name
            mutations.append(Mutation(target, _INPUT_MUTATION_KINDS[spec.kind], self._input_meta(value)))
        return mutations

    def get_call_function_nodes(self) -> list[NodeInfo]:
        return self.infos_of(self.flat)

    def infos_of(self, flat: FlatGraph) -> list[NodeInfo]:
        return [self._info(call) for call in flat.calls]

    def get_node_output_meta(self, name: str) -> list[TensorMeta]:
        for call in self.flat.calls:
            if call.name == name:
                return [self._meta(v) for v in call.outputs if v is not None]
        return []

    def get_node_input_meta(self, fx_node: torch.fx.Node) -> list[TensorMeta]:
        for call in self.flat.calls:
            if call.name == fx_node.name:
                return self._info(call).input_metas
        return []

    def _meta(self, value: Value) -> TensorMeta:
        node = value.call.name if value.call else value.name
        shape = shape_of(value.fake, f"node '{node}'", self.exported, self.symbols)
        return TensorMeta(value.name, shape, _dtype_to_str(value.fake.dtype))

    def _input_meta(self, value: Value) -> TensorMeta:
        meta = self._meta(value)
        if value.kind == "input":
            meta.producer_node = value.name
        elif value.call is not None:
            meta.producer_node = value.call.name
            meta.producer_output_idx = sum(v is not None for v in value.call.outputs[: value.index])
        return meta

    def _info(self, call: Call) -> NodeInfo:
        outputs = [self._meta(v) for v in call.outputs if v is not None]
        attrs: dict[str, Any]
        absent: list[str] = []
        if call.target is operator.getitem:
            values = [v for v in call.args[0] if isinstance(v, Value)]
            inputs, attrs, absent = [self._input_meta(v) for v in values], {"index": call.args[1]}, []
        elif isinstance(call.target, torch._ops.OpOverload):
            inputs, attrs, absent = self._by_schema(call)
        elif call.bodies:
            inputs = [self._input_meta(v) for v in call.inputs()]
            attrs, absent = dict(call.kwargs), []
            _refuse_open_operands(call)
        else:
            raise ConversionError(
                f"Node '{call.name}' ({call.source or 'no source known'}) calls {call.target}, which is not an "
                f"operator that IR can hold"
            )
        return NodeInfo(
            call.name, "call_function", call.target, call.args, call.kwargs,
            inputs, outputs, attrs, absent, call.module_path, call.source, call.bodies,
        )  # fmt: skip

    def _by_schema(self, call: Call) -> tuple[list[TensorMeta], dict[str, Any], list[str]]:
        """Tensors in the order of the schema, other arguments by name, and the names of absent tensors."""
        inputs: list[TensorMeta] = []
        attrs: dict[str, Any] = {}
        absent: list[str] = []
        sizes: list[int] = []
        masks: list[list[bool]] = []
        positional = iter(call.args)
        missing = object()
        for argument in arguments_of(call.target):
            value = missing if argument.kwarg_only else next(positional, missing)
            value = call.kwargs.get(argument.name, value)
            if argument.kind == "tensor":
                if isinstance(value, Value):
                    inputs.append(self._input_meta(value))
                elif value is missing or value is None:
                    absent.append(argument.name)
                else:
                    attrs[argument.name] = self._plain(value, call, argument.name)
            elif argument.kind == "tensors" and isinstance(value, (list, tuple)):
                sizes.append(sum(isinstance(v, Value) for v in value))
                if any(v is None for v in value):
                    masks.append([v is None for v in value])
                inputs.extend(self._input_meta(v) for v in value if isinstance(v, Value))
            elif value is not missing:
                attrs[argument.name] = self._plain(value, call, argument.name)
        if sizes:
            attrs["_tensor_list_sizes"] = sizes
        if masks:
            attrs["_tensor_list_none_masks"] = masks
        return inputs, attrs, absent

    def _plain(self, value: Any, call: Call, name: str) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._plain(v, call, name) for v in value]
        size = None if isinstance(value, Value) else self.symbols.size(value)
        if size is None and value is not None:
            raise ConversionError(
                f"Node '{call.name}' ({call.source or 'no source known'}): argument '{name}' of "
                f"{get_op_type(call.target)} depends on data or on a dynamic shape ({value}); IR extraction requires "
                f"static values"
            )
        return size


def _functional_form(exported: ExportedProgram) -> ExportedProgram:
    """The program after torch's own functionalization, without other decompositions."""
    undo = _spell_out_copies(exported)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # these concern torch's internals
            return exported.run_decompositions({})
    finally:
        undo()


def _spell_out_copies(exported: ExportedProgram) -> Callable[[], None]:
    """Give every ``copy_`` a source of its own, with the target's shape and dtype. Returns a function that undoes it.

    torch replaces a copy into a buffer by its source, even if the copy casts or broadcasts, or the source is also an
    output.
    """
    changed: list[tuple[torch.fx.Node, Any, list[torch.fx.Node]]] = []
    for node in list(exported.graph.nodes):
        if node.target is torch.ops.aten.copy_.default:
            source, added = _own_source(exported.graph, node)
            changed.append((node, node.args[1], added))
            node.update_arg(1, source)

    def undo() -> None:
        for node, source, added in changed:
            node.update_arg(1, source)
            for extra in reversed(added):
                exported.graph.erase_node(extra)

    return undo


def _own_source(graph: torch.fx.Graph, node: Any) -> tuple[Any, list[torch.fx.Node]]:
    target, source = node.args[0].meta["val"], node.args[1]
    added: list[torch.fx.Node] = []

    def add(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal source
        with graph.inserting_before(node):
            call = graph.call_function(op, args, kwargs)
        call.meta = {**node.meta, "val": op(args[0].meta["val"], *args[1:], **kwargs)}
        added.append(call)
        source = call

    if source.meta["val"].dtype != target.dtype:
        add(torch.ops.aten._to_copy.default, (source,), {"dtype": target.dtype})
    else:
        add(torch.ops.aten.clone.default, (source,), {})
    if source.meta["val"].shape != target.shape:
        add(torch.ops.aten.expand.default, (source, list(target.shape)), {})
    return source, added


def _refuse_open_operands(call: Call) -> None:
    if any(isinstance(a, (torch.SymInt, torch.SymFloat, torch.SymBool)) for a in call.args):
        raise ConversionError(
            f"Node '{call.name}' ({call.source or 'no source known'}) passes a size that is open into the branches of "
            f"{get_op_type(call.target)}, which take tensors; compute what needs the size before it"
        )


def _find_ties(exported: ExportedProgram) -> tuple[dict[str, str], dict[str, str]]:
    """State-dict names and placeholders of one tensor under several names, each mapped to the first."""
    first: dict[int, Any] = {}
    ties: dict[str, str] = {}
    same_as: dict[str, str] = {}
    for spec in exported.graph_signature.input_specs:
        if spec.kind not in (InputKind.PARAMETER, InputKind.BUFFER):
            continue
        tensor = exported.state_dict.get(spec.target, exported.constants.get(spec.target))
        if tensor is None:
            continue
        owner = first.setdefault(id(tensor), spec)
        if owner is not spec:
            ties[spec.target] = owner.target
            same_as[spec.arg.name] = owner.arg.name
    return ties, same_as
