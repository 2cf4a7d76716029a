"""Operators that make, move or select whole dimensions: views, slices, joins and tensors of one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from npu_base.sizes import Size

from npu.padding.calls import Call, rule
from npu.padding.extents import ONE, Axis, Extent, axis_of, reshaped
from npu.padding.ranges import Range, constant, hull
from npu.padding.refusal import Unproven
from npu.padding.values import EXACT, HEAD, PAD, REAL, Positions, Value

__all__: list[str] = []

_LAST = 2**62
"""An end from here on means all."""


def _moved(
    call: Call,
    value: Value,
    where: Mapping[int, tuple[int, Axis]],
    axes: list[Axis | None] | None = None,
    index: int = 0,
) -> Value:
    """A view of a value, with each of its padded axes where ``where`` says."""
    axes = axes or [None] * len(call.outputs[index].shape)
    for j, axis in where.values():
        axes[j] = axis
    result = call.result(axes, lambda cell: value.at({i: cell[j] for i, (j, _) in where.items()}), index)
    positions = value.positions and value.positions.moved({i: j for i, (j, axis) in where.items() if axis.is_simple})
    return _with_positions(call, result, positions)


def _with_positions(call: Call, value: Value, positions: Positions | None) -> Value:
    if positions is None or value.dtype not in EXACT:
        return value
    located = Value(value.shape, value.dtype, value.axes, value.cells, positions)
    cells = {}
    for key, r in value.cells.items():
        known = call.position_range(located, dict(zip(value.padded, key, strict=True)))
        cells[key] = r if known is None else r.meet(known)
    return Value(value.shape, value.dtype, value.axes, cells, positions)


@rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
def _reshape(call: Call) -> list[Value]:
    value: Value = call["self"]
    if call.outputs[0].dtype != value.dtype:
        raise Unproven("it reads bytes as another dtype")
    before = [Extent.of(n) for n in value.shape]
    return [_moved(call, value, reshaped(before, value.axes, [Extent.of(n) for n in call.outputs[0].shape]))]


def _permuted(call: Call, value: Value, order: Sequence[int]) -> list[Value]:
    """``order``: for each new axis, the old one."""
    return [_moved(call, value, {i: (j, axis) for j, i in enumerate(order) if (axis := value.axes[i]) is not None})]


@rule("permute")
def _permute(call: Call) -> list[Value]:
    return _permuted(call, call["self"], call.dims("dims"))


@rule("transpose", "swapaxes", "swapdims")
def _transpose(call: Call) -> list[Value]:
    value: Value = call["self"]
    names = [name for name in call.arguments if name != "self"]
    a, b = (value.axis(call[name]) for name in names)
    order = list(range(value.rank))
    order[a], order[b] = order[b], order[a]
    return _permuted(call, value, order)


@rule("t", "numpy_T", "mT", "matrix_H", "adjoint")
def _turned(call: Call) -> list[Value]:
    value: Value = call["self"]
    order = list(range(value.rank))
    if call.name == "numpy_T":
        return _permuted(call, value, order[::-1])
    return _permuted(call, value, [*order[:-2], *order[-2:][::-1]])


@rule("movedim", "moveaxis")
def _movedim(call: Call) -> list[Value]:
    value: Value = call["self"]
    source, target = call.dims("source"), call.dims("destination")
    by_target = dict(zip(target, source, strict=True))
    left = iter([i for i in range(value.rank) if i not in source])
    return _permuted(call, value, [by_target[j] if j in by_target else next(left) for j in range(value.rank)])


@rule("expand", "expand_as", "broadcast_to")
def _expand(call: Call) -> list[Value]:
    value: Value = call["self"]
    shape = call.outputs[0].shape
    shift = len(shape) - value.rank
    axes = call.padding.axes_of(shape)
    for i, extent in enumerate(value.shape):
        if extent != 1 or value.axes[i] is not None:
            axes[i + shift] = None
    return [_moved(call, value, {i: (i + shift, axis) for i, axis in enumerate(value.axes) if axis is not None}, axes)]


@rule("repeat", "tile")
def _repeat(call: Call) -> list[Value]:
    value: Value = call["self"]
    times = call["repeats" if call.name == "repeat" else "dims"]
    times = [1] * (value.rank - len(times)) + list(times)
    shift = len(times) - value.rank
    axes = [axis_of(n, call.symbol) for n in times]
    for i, axis in enumerate(axes):
        if axis is not None and i >= shift:  # each time has the whole dimension
            axes[i] = Axis(axis.outer, axis.size, axis.inner * Extent.of(value.shape[i - shift]))
    where = {}
    for i, axis in enumerate(value.axes):
        if axis is not None:
            where[i] = (i + shift, Axis(Extent.of(times[i + shift]) * axis.outer, axis.size, axis.inner))
    return [_moved(call, value, where, axes)]


@rule("repeat_interleave")
def _repeat_interleave(call: Call) -> list[Value]:
    value, times, dim = call["self"], call["repeats"], call["dim"]
    if type(times) is not int or dim is None:
        raise Unproven("it repeats each element its own number of times, or all of them as one row")
    d = value.axis(dim)
    where = {
        i: (i, Axis(axis.outer, axis.size, axis.inner * Extent(times)) if i == d else axis)
        for i, axis in enumerate(value.axes)
        if axis is not None
    }
    return [_moved(call, value, where)]


@rule("slice", "narrow")
def _slice(call: Call) -> list[Value]:
    value: Value = call["self"]
    d = value.axis(call["dim"] or 0)
    start, step = call["start"] or 0, call["step"] or 1
    end = start + call["length"] if call.name == "narrow" else call["end"]
    if value.axes[d] is None:
        return [_slice_of_fixed(call, value, d, start, step)]
    return [_slice_of_padded(call, value, d, start, end, step)]


def _slice_of_fixed(call: Call, value: Value, d: int, start: Any, step: Any) -> Value:
    axes = list(value.axes)
    axes[d] = axis_of(call.outputs[0].shape[d], call.symbol)
    if axes[d] is not None and (step != 1 or start != 0):
        raise Unproven(f"it takes every {step}th element from {start} of a dimension that is not padded")
    return _moved(call, value, {i: (i, axis) for i, axis in enumerate(value.axes) if axis is not None}, axes)


def _slice_of_padded(call: Call, value: Value, d: int, start: Any, end: Any, step: Any) -> Value:
    axis = value.axes[d]
    assert axis is not None
    if step != 1 or not axis.is_simple or isinstance(start, Size):
        raise Unproven(f"it takes a part of the padded dimension {d}, with a step or of a merged dimension")
    if start < 0:
        raise Unproven(f"it counts from the end of the padded dimension {d}, which is the bucket's end")
    where = {i: (i, a) for i, a in enumerate(value.axes) if a is not None and i != d}
    left = axis_of(call.outputs[0].shape[d], call.symbol)
    if left is not None:
        everything = end is None or end == value.shape[d] or (type(end) is int and end >= _LAST)
        return _part_of_padded(call, value, d, left, start, everything)
    if type(end) is not int or end > call.padding.least_real(axis):
        raise Unproven(f"it ends at {end}, beyond the least size of the padded dimension {d}")
    inside = HEAD if end == 1 else REAL
    result = _fixed_axes(call, value, where)
    return call.result(result, lambda cell: value.at({**{i: cell[i] for i in where}, d: inside}))


def _fixed_axes(call: Call, value: Value, where: Mapping[int, tuple[int, Axis]]) -> list[Axis | None]:
    axes: list[Axis | None] = [None] * len(call.outputs[0].shape)
    for j, axis in where.values():
        axes[j] = axis
    return axes


def _part_of_padded(call: Call, value: Value, d: int, left: Axis, start: int, everything: bool) -> Value:
    """The real part stays in front. If the end is cut off, more of what follows it is real too."""
    if not left.is_simple:
        raise Unproven("how much of the padded dimension it leaves is not known")
    axes = list(value.axes)
    axes[d] = left

    def ranges(cell: dict[int, str]) -> Range:
        if cell[d] == PAD:
            return hull(value.at({**cell, d: kind}) for kind in (PAD if everything else REAL + PAD))
        return value.at({**cell, d: REAL if start else cell[d]})

    result = call.result(axes, ranges)
    return _with_positions(call, result, value.positions) if everything and not start else result


@rule("select")
def _select(call: Call) -> list[Value]:
    value: Value = call["self"]
    d, index = value.axis(call["dim"]), call["index"]
    where = {i: (i - (i > d), axis) for i, axis in enumerate(value.axes) if axis is not None and i != d}
    axis = value.axes[d]
    if axis is None:
        return [_moved(call, value, where)]
    if type(index) is not int or index < 0:
        raise Unproven(f"it takes index {index} of the padded dimension {d}, from its end, where the padding is")
    if not axis.is_simple or index >= call.padding.least_real(axis):
        raise Unproven(f"it takes index {index} of the padded dimension {d}, beyond its least size")
    kind = REAL if index else HEAD
    axes = _fixed_axes(call, value, where)
    return [call.result(axes, lambda cell: value.at({**{i: cell[j] for i, (j, _) in where.items()}, d: kind}))]


@rule("unbind", "split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
def _split(call: Call) -> list[Value]:
    value: Value = call["self"]
    d = value.axis(call["dim"] or 0)
    call.require_unpadded(value, [d], f"it splits the padded dimension {d}")
    gone = call.name == "unbind"
    where = {i: (i - (gone and i > d), axis) for i, axis in enumerate(value.axes) if axis is not None}
    return [_moved(call, value, where, index=k) for k in range(len(call.outputs))]


@rule("cat", "concat", "concatenate")
def _cat(call: Call) -> list[Value]:
    values: list[Value] = [v for v in call["tensors"] if tuple(v.shape) != (0,)]
    d = values[0].axis(call["dim"] or 0)
    axes = list(values[0].axes)
    for value in values[1:]:
        if [a for i, a in enumerate(value.axes) if i != d] != [a for i, a in enumerate(axes) if i != d]:
            raise Unproven("it joins tensors whose padded parts are at different places")
    if any(value.axes[d] is not None for value in values[:-1]):
        raise Unproven(f"it puts more behind the padding of dimension {d}")
    last = values[-1]
    if last.axes[d] is None:
        return [call.result(axes, lambda cell: hull(v.at(cell) for v in values))]
    if not last.axes[d].is_simple:  # type: ignore[union-attr]
        raise Unproven(f"it joins something with a merged dimension {d}")
    axes[d] = axis_of(call.outputs[0].shape[d], call.symbol)
    starts = any(type(v.shape[d]) is int and v.shape[d] > 0 for v in values[:-1])

    def ranges(cell: dict[int, str]) -> Range:
        others = {i: kind for i, kind in cell.items() if i != d}
        front = [v.at(others) for v in values[:-1]]
        if cell[d] == PAD or not front:
            return last.at(cell)
        return hull(front) if cell[d] == HEAD and starts else hull([*front, last.at({**cell, d: REAL})])

    return [call.result(axes, ranges)]


@rule("constant_pad_nd", "pad")
def _pad(call: Call) -> list[Value]:
    """Numbers in front of a padded dimension move its padding. Those behind it are right if its padding is the same."""
    value: Value = call["self"]
    amounts = [tuple(call["pad"][i : i + 2]) for i in range(0, len(call["pad"]), 2)]
    ends = {value.rank - 1 - i: pair for i, pair in enumerate(amounts) if pair != (0, 0)}
    grown = {d: pair for d, pair in ends.items() if value.axes[d] is not None}
    is_constant = call["mode"] in (None, "constant")
    fill = call.limits.fit(constant(call["value"] or 0), value.dtype) if is_constant else value.whole()
    axes = list(value.axes)
    for d, (before, after) in grown.items():
        if not is_constant or min(before, after) < 0 or not value.axes[d].is_simple:  # type: ignore[union-attr]
            raise Unproven(f"it repeats numbers of the padded dimension {d}, or leaves some out")
        if after and (fill.constant is None or value.at({d: PAD}) != fill):
            raise Unproven(f"it puts more behind the padding of dimension {d}, which is not known to be the same")
        axes[d] = axis_of(call.outputs[0].shape[d], call.symbol)

    def ranges(cell: dict[int, str]) -> Range:
        if any(cell[d] == HEAD and before for d, (before, _) in grown.items()):
            return fill
        moved = {d: REAL if kind == HEAD and d in grown else kind for d, kind in cell.items()}
        is_filled = len(ends) > len(grown) or any(cell[d] != PAD or after for d, (_, after) in grown.items())
        return hull([value.at(moved), fill]) if is_filled else value.at(moved)

    return [call.result(axes, ranges)]


@rule("stack")
def _stack(call: Call) -> list[Value]:
    values: list[Value] = call["tensors"]
    rank = len(call.outputs[0].shape)
    d = call["dim"] or 0
    d = d + rank if d < 0 else d
    if any(value.axes != values[0].axes for value in values):
        raise Unproven("it joins tensors whose padded parts are at different places")
    axes = [*values[0].axes[:d], None, *values[0].axes[d:]]
    return [call.result(axes, lambda cell: hull(v.at({i - (i > d): k for i, k in cell.items()}) for v in values))]


@rule("arange")
def _arange(call: Call) -> list[Value]:
    start, step = call["start"] or 0, call["step"] or 1
    axes = call.padding.axes_of(call.outputs[0].shape)
    if axes[0] is None:
        most = call.padding.largest(call.outputs[0].shape[0]) - 1
        ends = [_number(start), _number(start) + _number(step) * max(most, 0)]
        return [call.result(axes, lambda cell: Range(min(ends), max(ends)))]
    if type(start) is not int or step != 1 or not axes[0].is_simple:
        raise Unproven("it counts from a number that is not fixed, or in steps")
    positions, dtype = Positions(((0, 1),), start), call.outputs[0].dtype
    located = replace(Value.of(call.outputs[0], axes, lambda _: call.everything()), positions=positions)

    def ranges(cell: dict[int, str]) -> Range:
        known = call.position_range(located, cell)
        return call.everything() if known is None else call.limits.rounded(known, dtype)

    return [_with_positions(call, call.result(axes, ranges), positions)]


def _number(value: Any) -> float:
    if isinstance(value, Size):
        raise Unproven(f"it counts from or by {value}, which is open")
    return value


def _filled(number: Callable[[Call], Any]) -> Callable[[Call], list[Value]]:
    def apply(call: Call) -> list[Value]:
        r = constant(number(call))
        axes = call.padding.axes_of(call.outputs[0].shape)
        if any(axis is not None and axis.inner != ONE for axis in axes):
            raise Unproven("its shape merges the padded size with others, in an unknown order")
        return [call.result(axes, lambda cell: call.limits.fit(r, call.outputs[0].dtype))]

    return apply


rule("zeros", "new_zeros")(_filled(lambda call: 0))
rule("ones", "new_ones")(_filled(lambda call: 1))
rule("full", "new_full")(_filled(lambda call: call["fill_value"]))
rule("scalar_tensor")(_filled(lambda call: call["s"]))


@rule("tril", "triu")
def _triangle(call: Call) -> list[Value]:
    """Element (i, j) stays if j - i is at most, or at least, ``diagonal``; others are 0."""
    value: Value = call["self"]
    diagonal = call["diagonal"] or 0
    rows, columns = value.rank - 2, value.rank - 1
    padded = {value.axes[rows], value.axes[columns]} - {None}
    located = Value(value.shape, value.dtype, value.axes, value.cells, Positions(((rows, -1), (columns, 1))))

    def ranges(cell: dict[int, str]) -> Range:
        known = call.position_range(located, cell) if len(padded) == 1 and rows in cell and columns in cell else None
        kept, dropped = value.at(cell), constant(0)
        if known is not None:
            inside, outside = known.high <= diagonal, known.low > diagonal
            if call.name == "triu":
                inside, outside = known.low >= diagonal, known.high < diagonal
            if inside or outside:
                return kept if inside else dropped
        return hull([kept, dropped])

    if any(axis is not None and not axis.is_simple for axis in padded):
        raise Unproven("its rows or columns are a merged dimension")
    return [call.result(value.axes, ranges)]
