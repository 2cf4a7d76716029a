"""Operators that take elements by their positions: right if these are real ones where the result is real."""

from __future__ import annotations

from typing import Any

from npu.padding.calls import Call, rule
from npu.padding.extents import Axis
from npu.padding.ranges import Range
from npu.padding.refusal import Unproven
from npu.padding.rules.elementwise import broadcast
from npu.padding.values import PAD, Value

__all__: list[str] = []


def _check_places(call: Call, index: Value, extent: Any, *, wraps: bool = False) -> None:
    """Indices of padding must be ones that there are. Real ones are the caller's, as without padding. Others that
    depend on sizes alone are right if the model takes the larger size; of those, only plain positions are checked."""
    if index.of_sizes and index.positions is None:
        return
    for cell, r in index.cells.items():
        if PAD not in cell:
            continue
        if type(extent) is not int or not r.within(-extent if wraps else 0, extent - 1):
            raise Unproven(
                f"the index of a padded position may be out of range: {r.low} to {r.high}, where there are {extent}"
            )


@rule("embedding")
def _embedding(call: Call) -> list[Value]:
    weight, index = call["weight"], call["indices"]
    if weight.is_padded:
        raise Unproven("its table is padded")
    _check_places(call, index, weight.shape[0])
    return [call.result([*index.axes, None], lambda _: weight.whole())]


@rule("index_select")
def _index_select(call: Call) -> list[Value]:
    value, index = call["self"], call["index"]
    d = value.axis(call["dim"])
    call.require_unpadded(value, [d], "it takes elements of the padded dimension by their numbers")
    _check_places(call, index, value.shape[d])
    axes = list(value.axes)
    axes[d] = index.axes[0] if index.rank else None
    return [call.result(axes, lambda cell: value.at({i: cell[i] for i in value.padded}))]


@rule("gather")
def _gather(call: Call) -> list[Value]:
    value, index = call["self"], call["index"]
    d = value.axis(call["dim"])
    call.require_unpadded(value, [d], "it takes elements of the padded dimension by their numbers")
    _check_places(call, index, value.shape[d])
    for i in value.padded:
        if index.axes[i] != value.axes[i]:
            raise Unproven("its operands are padded at different places")
    return [call.result(index.axes, lambda cell: value.at({i: cell[i] for i in value.padded}))]


@rule("index")
def _index(call: Call) -> list[Value]:
    value: Value = call["self"]
    given: list[Value | None] = call["indices"]
    indices = {i: index for i, index in enumerate(given) if index is not None}
    if any(index.dtype in ("bool", "uint8") for index in indices.values()):
        raise Unproven("how many elements a mask takes depends on its values")
    shared = broadcast(list(indices.values()))
    dims = sorted(indices)
    adjacent = dims == list(range(dims[0], dims[-1] + 1))
    at = dims[0] if adjacent else 0
    kept = [i for i in range(value.rank) if i not in indices]
    order: list[Any] = [*kept[:at], *(("index", j) for j in range(len(shared))), *kept[at:]]
    axes: list[Axis | None] = [value.axes[e] if isinstance(e, int) else shared[e[1]] for e in order]
    follows = {d: _followed(call, value, d, indices[d], len(shared)) for d in dims}

    def ranges(cell: dict[int, str]) -> Range:
        by_entry = {entry: cell.get(j) for j, entry in enumerate(order)}
        source: dict[int, str] = {}
        for i in value.padded:
            kind = by_entry[("index", follows[i])] if i in indices else by_entry[i]
            assert kind is not None
            source[i] = kind
        return value.at(source)

    return [call.result(axes, ranges)]


def _followed(call: Call, value: Value, d: int, index: Value, rank: int) -> int | None:
    """The dimension of the index that runs along the padded dimension ``d``."""
    axis = value.axes[d]
    if axis is None:
        _check_places(call, index, value.shape[d], wraps=True)
        return None
    j = index.positions.alone() if index.positions is not None else None
    if j is None or index.axes[j] != axis or not axis.is_simple:
        raise Unproven(f"it takes elements of the padded dimension {d} by numbers that are not its positions in order")
    return j + rank - index.rank
