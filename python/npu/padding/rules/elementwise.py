"""Operators that compute each element from those at its place: arithmetic, comparisons, masks, casts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from npu.padding.calls import Call, on_scalars, rule
from npu.padding.extents import Axis
from npu.padding.ranges import Range, constant
from npu.padding.refusal import Unproven
from npu.padding.rules.arithmetic import COMPARISONS, ELEMENTWISE, OVERFLOWING
from npu.padding.values import EXACT, Positions, Value

__all__ = ["broadcast", "elementwise", "operand_range"]


def broadcast(values: Sequence[Value]) -> list[Axis | None]:
    """The axes of a result whose dimensions are those of the values, from the last."""
    rank = max((value.rank for value in values), default=0)
    axes: list[Axis | None] = [None] * rank
    for value in values:
        for i, axis in enumerate(value.axes, rank - value.rank):
            if axis is None:
                continue
            if axes[i] not in (None, axis):
                raise Unproven("it joins two dimensions whose padded parts are at different places")
            axes[i] = axis
    for value in values:
        for i, (axis, extent) in enumerate(zip(value.axes, value.shape, strict=True), rank - value.rank):
            if axes[i] is not None and axis is None and extent != 1:
                raise Unproven(f"it joins a padded dimension with one of {extent}")
    return axes


def operand_range(operand: Any, cell: Mapping[int, str], rank: int) -> Range | None:
    """Of a tensor, a number or nothing, where the result has a cell."""
    if operand is None:
        return None
    if isinstance(operand, Range):
        return operand
    shift = rank - operand.rank
    return operand.at({i: cell[i + shift] for i in operand.padded})


def elementwise(call: Call) -> list[Value]:
    name = {"max": "maximum", "min": "minimum"}.get(call.name, call.name)
    names, function = ELEMENTWISE[name]
    operands = [_fitting(call, call[n]) for n in names]
    if any(isinstance(n, (str, complex)) for n in operands):
        raise Unproven("it computes with other things than numbers")
    tensors = {n: v for n, v in zip(names, operands, strict=True) if isinstance(v, Value)}
    axes = broadcast(list(tensors.values()))
    rank, dtype = len(axes), call.outputs[0].dtype
    positions = _positions(name, operands, rank)
    known: dict[tuple[Any, ...], Range] = {}

    def ranges(cell: dict[int, str]) -> Range:
        given = tuple(operand_range(operand, cell, rank) for operand in operands)
        if given not in known:
            known[given] = _computed(call, function, names, operands, given, dtype)
        return known[given]

    value = call.result(axes, ranges)
    return [value if positions is None else _refined(call, name, value, positions)]


def _fitting(call: Call, operand: Any) -> Any:
    """Numbers as ranges, of what they may be in the dtype of the result."""
    if isinstance(operand, Value) or operand is None or isinstance(operand, (str, complex)):
        return operand
    dtype = call.outputs[0].dtype
    return call.limits.fit(constant(operand), dtype) if "float" in dtype else constant(operand)


def _computed(
    call: Call, function: Any, names: Sequence[str], operands: Sequence[Any], given: Sequence[Range | None], dtype: str
) -> Range:
    limits = call.limits
    tensors = {n: (r, v.dtype) for n, v, r in zip(names, operands, given, strict=True) if isinstance(v, Value) and r}
    if all(r.constant is not None for r, _ in tensors.values()):
        try:
            return limits.fit(constant(on_scalars(call, {n: (r.constant, d) for n, (r, d) in tensors.items()})), dtype)
        except (RuntimeError, ValueError, OverflowError):
            return limits.all_of(dtype)
    if any("complex" in of for _, of in tensors.values()):
        return limits.all_of(dtype)
    r = replace(limits.rounded(function(call, *given), dtype), of_data=any(o.of_data for o in given if o))
    if call.name in OVERFLOWING:
        return limits.fit(r, dtype)
    every = [(o, v.dtype if isinstance(v, Value) else dtype) for v, o in zip(operands, given, strict=True) if o]
    return limits.regular(r, dtype, *every)


def _positions(name: str, operands: Sequence[Any], rank: int) -> Positions | None:
    """Of sums and differences of positions; for comparisons, of the first operand less the second."""
    if name == "neg":
        (a,) = (_as_positions(v, rank) for v in operands)
        return a and Positions(()).plus(a, -1)
    if name not in ("add", "sub", "rsub", *COMPARISONS):
        return None
    a, b = (_as_positions(v, rank) for v in operands)
    if a is None or b is None or not (a.terms or b.terms):
        return None
    return b.plus(a, -1) if name == "rsub" else a.plus(b, 1 if name == "add" else -1)


def _as_positions(operand: Any, rank: int) -> Positions | None:
    if isinstance(operand, Value):
        if operand.positions is not None:
            shift = rank - operand.rank
            return operand.positions.moved({i: i + shift for i in range(operand.rank)})
        operand = operand.whole()
    operand = operand.constant if isinstance(operand, Range) else None
    return Positions((), operand) if type(operand) is int else None


def _refined(call: Call, name: str, value: Value, positions: Positions) -> Value:
    if call["alpha"] not in (None, 1):
        return value
    located = Value(value.shape, value.dtype, value.axes, value.cells, positions)

    def ranges(cell: dict[int, str]) -> Range:
        known = call.position_range(located, cell)
        if known is None:
            return value.at(cell)
        return value.at(cell).meet(COMPARISONS[name](call, known, Range(0, 0)) if name in COMPARISONS else known)

    refined = call.result(value.axes, ranges)
    if name in COMPARISONS:
        return refined
    return Value(value.shape, value.dtype, value.axes, refined.cells, positions)


for _name in ELEMENTWISE:
    rule(_name)(elementwise)


@rule("to", "_to_copy", "type_as")
def _cast(call: Call) -> list[Value]:
    value: Value = call["self"]
    before, after = value.dtype, call.outputs[0].dtype
    is_float = "float" in before

    def ranges(cell: dict[int, str]) -> Range:
        r = value.at(cell)
        if r.constant is not None and r.is_finite:
            one = torch.tensor(r.constant, dtype=getattr(torch, before))
            return constant(one.to(getattr(torch, after)).item())
        if after == "bool":
            return Range(0 if r.low <= 0 <= r.high else 1, 0 if r.is_zero else 1)
        if is_float and "float" not in after:
            return replace(r, low=r.low - 1, high=r.high + 1) if r.is_finite else call.everything()
        return call.limits.regular(call.limits.rounded(r, after), after, (r, before))

    result = call.result(value.axes, ranges)
    positions = value.positions if after in EXACT else None
    return [Value(result.shape, result.dtype, result.axes, result.cells, positions)]


@rule("clone", "contiguous", "alias", "detach", "lift_fresh_copy", "lift_fresh", "lift", "positive")
def _same(call: Call) -> list[Value]:
    value: Value = call["self"]
    result = call.result(value.axes, value.at)
    return [Value(result.shape, result.dtype, result.axes, result.cells, value.positions)]


@rule("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def _dropout(call: Call) -> list[Value]:
    value: Value = call["input"]
    if call["train"] and call["p"]:
        raise Unproven("it draws random numbers")
    return [call.result(value.axes, value.at)]


@rule("zeros_like", "ones_like", "full_like")
def _filled_like(call: Call) -> list[Value]:
    value: Value = call["self"]
    number = {"zeros_like": 0, "ones_like": 1}.get(call.name)
    r = constant(call["fill_value"] if number is None else number)
    return [call.result(value.axes, lambda cell: r)]
