"""The IR of one size, from an IR whose sizes are open. ``ir.py`` knows this module, not the reverse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from npu_base.nesting import size_text
from npu_base.size_rules import SizeRules
from npu_base.sizes import Size

from ._encoding import dtype_from_str
from .binding import GETITEM, bind_getitem, bind_operator
from .errors import InvalidInputError
from .ops.registry import get_execution_fn
from .ops.schemas import resolve_op
from .parts import Mutation, OpNode, TensorMeta
from .shape_rules import shapes_given


def rules_of(ir: Any) -> SizeRules:
    return SizeRules(ir.model_name, ir.graph_inputs, ir.sizes, ir.conditions, InvalidInputError)


def specialize(ir: Any, shapes: Any, sizes: Mapping[str, int]) -> Any:
    if not ir.sizes:
        raise InvalidInputError(
            f"'{ir.model_name}' has fixed shapes; extract it with dynamic_shapes= to leave sizes open"
        )
    rules, values = rules_of(ir), dict(sizes)
    if shapes is None:
        rules.check(values)
    else:
        values = rules.sizes_of(shapes, sizes)
    result = _Specializer(rules, values).run(ir)
    _check_shapes(ir, result, values, {})
    return result


class _Specializer:
    def __init__(self, rules: SizeRules, values: Mapping[str, int]) -> None:
        self.rules, self.values = rules, values
        self.cache: dict[str, Any] = {}

    def run(self, ir: Any) -> Any:
        return replace(
            ir,
            nodes=[self._node(n) for n in ir.nodes],
            graph_inputs=self._metas(ir.graph_inputs),
            graph_outputs=self._metas(ir.graph_outputs),
            weights=list(ir.weights),
            mutations=[Mutation(m.target, m.kind, self._meta(m.value)) for m in ir.mutations],
            subgraphs={name: self.run(body) for name, body in ir.subgraphs.items()},
            output_structure=self._structure(ir.output_structure),
            sizes=[],
            conditions=[],
        )

    def _structure(self, entry: Any) -> Any:
        if entry is None or "tensor" in entry:
            return entry
        if "items" in entry:
            return {**entry, "items": [self._structure(item) for item in entry["items"]]}
        text = size_text(entry.get("value"))
        return entry if text is None else {"value": self._value(Size(text))}

    def _node(self, node: OpNode) -> OpNode:
        attrs = {k: self._attr(v) for k, v in node.attrs.items()}
        return replace(node, inputs=self._metas(node.inputs), outputs=self._metas(node.outputs), attrs=attrs)

    def _metas(self, metas: list[TensorMeta]) -> list[TensorMeta]:
        return [self._meta(t) for t in metas]

    def _meta(self, t: TensorMeta) -> TensorMeta:
        shape = tuple(self._value(s) if isinstance(s, Size) else s for s in t.shape)
        return TensorMeta(t.name, shape, t.dtype, t.producer_node, t.producer_output_idx)

    def _attr(self, value: Any) -> Any:
        if isinstance(value, Size):
            return self._value(value)
        if isinstance(value, (list, tuple)):
            return [self._attr(v) for v in value]
        if isinstance(value, dict):
            return {k: self._attr(v) for k, v in value.items()}
        return value

    def _value(self, size: Size) -> Any:
        if size.text not in self.cache:
            self.cache[size.text] = self.rules.value(size.text, self.values)
        return self.cache[size.text]


def _check_shapes(ir: Any, special: Any, values: Mapping[str, int], known: dict[Any, Any]) -> None:
    """Refuse a size for which an operator has another result than the trace says.

    PyTorch's rules for sizes in general (that a size differs from 1, say) may not hold for this one. Results that
    nobody reads are not compared, since devices differ in them.
    """
    read = _read_results(special)
    for traced, node in zip(ir.nodes, special.nodes, strict=True):
        if not _has_open_sizes(traced):
            continue
        wanted = [(node.name, i) in read or t.name in read for i, t in enumerate(node.outputs)]
        expected = [tuple(t.shape) for t in node.outputs]
        got = _meta_shapes(node, known)
        if got is not None and (len(got) != len(expected) or any(map(_differs, got, expected, wanted))):
            raise InvalidInputError(_does_not_hold(special, node, got, values))
    for name, body in ir.subgraphs.items():
        _check_shapes(body, special.subgraphs[name], values, known)


def _differs(got: tuple[int, ...], expected: tuple[int, ...], wanted: bool) -> bool:
    return wanted and got != expected


def _does_not_hold(ir: Any, node: OpNode, got: list[tuple[int, ...]], values: Mapping[str, int]) -> str:
    sizes = ", ".join(f"{k}={v}" for k, v in values.items())
    gives = f"gives {[list(s) for s in got]}" if got else "does not take these shapes"
    return (
        f"The trace of '{ir.model_name}' does not hold for {sizes}: node '{node.name}' ({node.op_type}, "
        f"{node.source or 'no source known'}) {gives}, traced as {[list(t.shape) for t in node.outputs]}; extract "
        f"with example inputs of this size"
    )


def _read_results(ir: Any) -> set[Any]:
    """The results that something reads: by node and index, or by name alone where the reader does not say the node."""
    metas = [t for node in ir.nodes for t in _read_by(node)]
    metas += [*ir.graph_outputs, *(m.value for m in ir.mutations)]
    return {t.name if t.producer_node is None else (t.producer_node, t.producer_output_idx) for t in metas}


def _read_by(node: OpNode) -> list[TensorMeta]:
    if node.op_type != GETITEM:
        return node.inputs
    selected = bind_getitem(node, list(range(len(node.inputs)))).holes[0][1]
    return [node.inputs[selected]]


def _has_open_sizes(node: OpNode) -> bool:
    if any(isinstance(s, Size) for t in (*node.inputs, *node.outputs) for s in t.shape):
        return True
    return any(map(_is_open, node.attrs.values()))


def _is_open(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_is_open, value))
    return isinstance(value, Size)


def _meta_shapes(node: OpNode, known: dict[Any, Any]) -> list[tuple[int, ...]] | None:
    """The shapes of a node's results, found once for equal nodes; None if PyTorch cannot tell."""
    if resolve_op(node.op_type) is None or get_execution_fn(node.op_type) is not None:
        return None
    key = (
        node.op_type, tuple((tuple(t.shape), t.dtype) for t in node.inputs), repr(node.attrs),
        tuple(node.absent_inputs), node.outputs[0].dtype if node.outputs else None,
    )  # fmt: skip
    if key not in known:
        shapes = shapes_given(node)
        known[key] = _on_meta(node) if shapes is None else shapes
    result: list[tuple[int, ...]] | None = known[key]
    return result


def _on_meta(node: OpNode) -> list[tuple[int, ...]] | None:
    device = torch.device("meta")
    attrs = {k: device if isinstance(v, torch.device) else v for k, v in node.attrs.items()}
    try:
        step = bind_operator(node, list(range(len(node.inputs))), attrs)
        inputs = [torch.empty(t.shape, dtype=dtype_from_str(t.dtype), device=device) for t in node.inputs]
        args = list(step.args)
        for position, slot in step.holes:
            args[position] = inputs[slot]
        for position, many in step.lists:
            args[position] = [None if s is None else inputs[s] for s in many]
        kwargs = {**step.kwargs, **{name: inputs[slot] for name, slot in step.keywords}}
        with torch.no_grad():
            result = step.fn(*args, **kwargs)
    except NotImplementedError:  # there is no meta function
        return None
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):  # it does not take these shapes
        return []
    if result is None:
        return None
    results = list(result) if isinstance(result, (list, tuple)) else [result]
    return [tuple(r.shape) for r in results if isinstance(r, torch.Tensor)]
