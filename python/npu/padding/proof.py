"""The walk through a graph: from what the inputs are padded with to the results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from npu_base.errors import InvalidValueError, NPUError, format_error
from torch_ir.binding import GETITEM, bind_getitem
from torch_ir.ops.schemas import resolve_op
from torch_ir.parts import OpNode, TensorMeta

from npu.buckets import ABOVE, Fill
from npu.padding.calls import Call, Padding
from npu.padding.extents import ONE, Axis
from npu.padding.ranges import Limits, Range, constant, hull
from npu.padding.refusal import Unproven
from npu.padding.rules import RULES
from npu.padding.values import HEAD, Value, is_real

__all__ = ["Needs", "prove"]

Needs = dict[str, Fill | str]
"""What must hold of inputs so that padding is right, as in ``Buckets.needs``."""


def prove(
    ir: Any,
    symbol: str,
    *,
    least: int,
    most: int,
    fills: Mapping[str, Fill] | None = None,
    compute_dtype: str | None = None,
    masks: Mapping[str, torch.Tensor] | None = None,
) -> Needs:
    """Prove that ``symbol`` may be padded from any value of at least ``least`` to any of at most ``most``.

    Inputs are padded with 0, or with what ``fills`` says. ``masks`` are the weights that have no ordinary numbers.
    The result says what must hold of a call's inputs; a call for which it does not must not be padded.
    An ``InvalidValueError`` names the node for which there is no proof.
    """
    sizes = {size.name: size for size in ir.sizes if size.name != symbol}
    padding = Padding(symbol, max(least, 1), most, Limits(compute_dtype), sizes)
    given = {t.name: (fills or {}).get(t.name, 0) for t in ir.graph_inputs}
    first: Unproven | None = None
    for needs in _needs_to_try(ir, padding, given, fills or {}):
        try:
            _Walk(ir, padding, given, needs, masks or {}).run()
        except Unproven as failure:
            first = first or failure
        else:
            return needs
    assert first is not None
    raise _refused(symbol, first)


def _needs_to_try(ir: Any, padding: Padding, fills: Mapping[str, Fill], named: Mapping[str, Fill]) -> Iterator[Needs]:
    """The fewest first. Masks are inputs that are no floats, or that ``named`` says what to pad with."""
    masks = [
        t.name
        for t in ir.graph_inputs
        if padding.depends(list(t.shape))
        and ("float" not in t.dtype or t.name in named)
        and "complex" not in t.dtype
        and _is_simple(padding, t)
    ]
    yield {}
    for name in masks:
        yield {name: _visible(fills[name])}
    for t in ir.graph_inputs:
        if t.name in masks and t.dtype.startswith("int"):
            yield {t.name: ABOVE}
    if len(masks) > 1:
        yield {name: _visible(fills[name]) for name in masks}


def _is_simple(padding: Padding, meta: TensorMeta) -> bool:
    """Whether the last padded dimension has the padded size alone, so that its first element is one index."""
    try:
        axes = [axis for axis in padding.axes_of(meta.shape) if axis is not None]
    except Unproven:
        return False
    return bool(axes) and axes[-1].is_simple


def _visible(fill: Fill) -> Fill:
    """What a mask that is padded with ``fill`` has where nothing is hidden."""
    visible = 0 if fill else 1
    return bool(visible) if isinstance(fill, bool) else visible


def _refused(symbol: str, failure: Unproven) -> InvalidValueError:
    return InvalidValueError(
        format_error(
            "npu",
            f"padding '{symbol}' to buckets is not proven to keep the results",
            got=f"{failure.where}: {failure.why}",
            expected="a model that leaves padding out of its results, by a mask",
            action=f"a mask among the inputs, pad= with what hides padding in it, or no buckets for '{symbol}'",
        )
    )


def describe(node: OpNode) -> str:
    module = f", module '{node.module_path}'" if node.module_path else ""
    source = f", {node.source}" if node.source else ""
    return f"node '{node.name}' ({node.op_type}{module}{source})"


def _read_nodes(ir: Any) -> list[OpNode]:
    """Those that results depend on, and those that only have effects."""
    made_by = {t.name: node.name for node in ir.nodes for t in node.outputs}

    def makers(tensors: Iterable[TensorMeta]) -> set[str | None]:
        return {t.producer_node or made_by.get(t.name) for t in tensors}

    read = makers([*ir.graph_outputs, *(m.value for m in ir.mutations)])
    nodes = []
    for node in reversed(ir.nodes):
        if node.name in read or not node.outputs:
            read |= makers(node.inputs)
            nodes.append(node)
    return nodes[::-1]


class _Walk:
    def __init__(
        self, ir: Any, padding: Padding, fills: Mapping[str, Fill], needs: Needs, masks: Mapping[str, torch.Tensor]
    ) -> None:
        self.ir, self.padding, self.fills, self.needs, self.masks = ir, padding, fills, needs, masks
        self.limits = padding.limits
        self.results: dict[str, list[Value]] = {}
        """By node, the values of its tensor results."""
        self.named: dict[str, Value] = {}

    def run(self) -> None:
        weights = {t.name: t for t in self.ir.weights}
        for name, state_name in {**{n: n for n in weights}, **self.ir.weight_name_mapping}.items():
            state_name = self.ir.ties.get(state_name, state_name)
            if state_name in weights:
                self.named[name] = self._weight(weights[state_name], state_name)
        for meta in self.ir.graph_inputs:
            try:
                self.named[meta.name] = self._input(meta)
            except Unproven as error:
                raise Unproven(error.why, f"input '{meta.name}'") from None
        for node in _read_nodes(self.ir):
            inputs = [self._value(meta) for meta in node.inputs]
            of_sizes = all(value.of_sizes for value in inputs)
            values = [replace(value, of_sizes=of_sizes) for value in self._node(node, inputs)]
            self.results[node.name] = values
            self.named.update({meta.name: value for meta, value in zip(node.outputs, values, strict=True)})
        self._check_results()

    def _value(self, meta: TensorMeta) -> Value:
        if meta.producer_node in self.results:
            values = self.results[meta.producer_node]
            if meta.producer_output_idx < len(values):
                return values[meta.producer_output_idx]
        return self.named[meta.name]

    def _input(self, meta: TensorMeta) -> Value:
        axes = self.padding.axes_of(meta.shape)
        fill = self.limits.fit(constant(self.fills[meta.name]), meta.dtype)
        for axis in filter(None, axes):
            self.padding.least_real(axis)
        real = self.limits.ordinary(meta.dtype)
        if not self.limits.is_ordinary(fill, meta.dtype) and "float" in meta.dtype:
            real = hull([real, fill])  # a mask of such numbers
        need = self.needs.get(meta.name)
        if need is not None and need != ABOVE:
            real = hull([fill, constant(need)])
        last = max((i for i, axis in enumerate(axes) if axis is not None), default=None)

        def ranges(cell: dict[int, str]) -> Range:
            if not is_real(cell):
                return fill
            if last is not None and cell[last] == HEAD and need is not None:
                return Range(fill.high + 1, real.high) if need == ABOVE else constant(need)
            return real

        return Value.of(meta, axes, ranges)

    def _weight(self, meta: TensorMeta, name: str) -> Value:
        r = self.limits.ordinary(meta.dtype)
        is_fixed = name in self.ir.constants and all(m.target != name for m in self.ir.mutations)
        data = self.ir.constants.get(name, self.masks.get(name))
        known = None if data is None else _range_of(data)
        if known is not None and is_fixed:
            r = known
        elif known is not None and "float" in meta.dtype:
            r = hull([r, known])
        r = self.limits.fit(r, meta.dtype)
        return replace(Value.of(meta, [None] * len(meta.shape), lambda _: r), of_sizes=True)

    def _node(self, node: OpNode, inputs: list[Value]) -> list[Value]:
        touched = any(value.is_padded for value in inputs) or self._has_size(node)
        touched = touched or any(name in self.ir.subgraphs for name in node.attrs.values() if isinstance(name, str))
        try:
            return self._by_rule(node, inputs)
        except Unproven as error:
            if touched:
                raise Unproven(error.why, describe(node)) from None
        return [
            Value.of(meta, [None] * len(meta.shape), lambda _, meta=meta: self.limits.all_of(meta.dtype))  # type: ignore[misc]
            for meta in node.outputs
        ]

    def _applied(self, rule: Any, node: OpNode, inputs: list[Value]) -> list[Value]:
        try:
            return list(rule(Call(node, inputs, self.padding)))
        except (NPUError, TypeError, AttributeError, ValueError, LookupError, ArithmeticError):
            raise Unproven("this form of the operator is not known") from None

    def _by_rule(self, node: OpNode, inputs: list[Value]) -> list[Value]:
        if node.op_type == GETITEM:
            return [inputs[bind_getitem(node, list(range(len(inputs)))).holes[0][1]]]
        namespace, _, rest = node.op_type.partition(".")
        rule = RULES.get(rest.partition(".")[0]) if namespace == "aten" else None
        if rule is None or resolve_op(node.op_type) is None:
            raise Unproven(f"what this operator does with padded '{self.padding.symbol}' is not known")
        values = self._applied(rule, node, inputs)
        if len(values) != len(node.outputs):
            raise Unproven("this form of the operator is not known")
        return values

    def _has_size(self, node: OpNode) -> bool:
        shapes = [list(meta.shape) for meta in node.outputs]
        return self.padding.depends(shapes) or self.padding.depends(list(node.attrs.values()))

    def _check_results(self) -> None:
        for meta in self.ir.graph_outputs:
            self._check_result(f"result '{meta.name}'", self._value(meta).axes)
        for mutation in self.ir.mutations:
            value = self._value(mutation.value)
            if mutation.kind != "input" and value.is_padded:
                raise Unproven("the model writes padded numbers into it", f"'{mutation.target}'")

    def _check_result(self, where: str, axes: Sequence[Axis | None]) -> None:
        for i, axis in enumerate(axes):
            if axis is not None and axis.outer != ONE:
                raise Unproven(f"its dimension {i} has padded '{self.padding.symbol}' inside of another size", where)


def _range_of(data: torch.Tensor) -> Range | None:
    if data.numel() == 0 or data.is_complex():
        return None
    if data.is_floating_point() and bool(data.isnan().any()):
        return Range(-math.inf, math.inf, True)
    if data.dtype == torch.bool:
        return Range(int(bool(data.all())), int(bool(data.any())))
    return Range(data.min().item(), data.max().item())
