"""Reductions, and what runs along a dimension: right over padding that has the neutral element, or that comes last."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

from npu.padding.calls import Call, rule
from npu.padding.extents import Axis
from npu.padding.ranges import ANY, BOOL, Range, hull, truth
from npu.padding.refusal import Unproven
from npu.padding.rules.elementwise import elementwise
from npu.padding.values import HEAD, PAD, REAL, Value, is_real

__all__ = ["vanishes"]

Cells = list[Range]


def vanishes(padding: Range, real: Sequence[Range], gap: float) -> bool:
    """Whether exp of it is nothing beside that of the largest real number of the same row, of which ``real`` are."""
    if padding.nan:
        return False
    return padding.high == -math.inf or max(r.low for r in real) - padding.high >= gap


def _reduced(
    call: Call, value: Value, dims: Sequence[int], neutral: Callable[[Range, Cells], bool],
    combine: Callable[[Cells, float], Range], why: str, index: int = 0,
) -> Value:  # fmt: skip
    """``neutral`` of the ranges of padding and of real cells; ``combine`` of all ranges and the number of elements."""
    kept = len(call.outputs[index].shape) == value.rank and value.rank > 0
    left = [i for i in range(value.rank) if i not in dims]
    axes: list[Axis | None] = [None if i in dims else axis for i, axis in enumerate(value.axes)]
    if not kept:
        axes = [value.axes[i] for i in left]
    gone = [i for i in dims if value.axes[i] is not None]
    count = math.prod(call.padding.largest(value.shape[i]) for i in dims)

    def ranges(cell: dict[int, str]) -> Range:
        others = {i: cell[i if kept else left.index(i)] for i in left if value.axes[i] is not None}
        cells = [dict(zip(gone, kinds, strict=True)) for kinds in product(HEAD + REAL + PAD, repeat=len(gone))]
        real = [value.at({**others, **c}) for c in cells if is_real(c)]
        padding = [value.at({**others, **c}) for c in cells if not is_real(c)]
        if is_real(cell) and not all(neutral(r, real) for r in padding):
            raise Unproven(f"it {why} over padded '{call.symbol}', and its padding there is not known to be left out")
        return combine(real if is_real(cell) else [*real, *padding], count)

    return call.result(axes, ranges, index)


def _total(call: Call) -> Callable[[Cells, float], Range]:
    dtype = call.outputs[0].dtype
    before = call["self"].dtype

    def combine(cells: Cells, count: float) -> Range:
        whole = hull(cells)
        if whole.nan or not math.isfinite(count):
            return call.everything() if "float" not in dtype else call.row_range((whole, before))
        exact = replace(whole, low=min(whole.low * count, whole.low), high=max(whole.high * count, whole.high))
        if whole.low == -math.inf or whole.high == math.inf:
            return call.everything()
        exact = replace(exact, low=min(exact.low, 0), high=max(exact.high, 0)) if not whole.is_zero else whole
        return call.limits.regular(call.limits.rounded(exact, dtype, sums=True), dtype, (whole, before))

    return combine


@rule("sum", "nansum")
def _sum(call: Call) -> list[Value]:
    value: Value = call["self"]
    return [_reduced(call, value, call.dims(), lambda p, _: p.is_zero, _total(call), "sums")]


@rule("count_nonzero")
def _count(call: Call) -> list[Value]:
    value: Value = call["self"]
    most = lambda _, count: Range(0, count)  # noqa: E731
    return [_reduced(call, value, call.dims(), lambda p, _: p.is_zero, most, "counts")]


@rule("mean")
def _mean(call: Call) -> list[Value]:
    value: Value = call["self"]
    dims = call.dims()
    why = f"it averages over '{call.symbol}', so it would divide by the bucket's size"
    call.require_unpadded(value, dims, why)

    def mean(cells: Cells, _: float) -> Range:
        whole = hull(cells)
        return call.limits.regular(
            call.limits.rounded(whole, value.dtype, sums=True), value.dtype, (whole, value.dtype)
        )

    return [_reduced(call, value, dims, lambda p, _: False, mean, "averages")]


@rule("amax", "amin", "max", "min")
def _extreme(call: Call) -> list[Value]:
    if len(call.inputs) == 2:
        return elementwise(call)
    value: Value = call["self"]
    largest = "max" in call.name
    several = len(call.outputs) > 1  # positions too, which must not be those of padding

    def neutral(padding: Range, real: Cells) -> bool:
        if padding.nan:
            return False
        if largest:
            best = max(r.low for r in real)
            return padding.high < best or (not several and padding.high <= best)
        best = min(r.high for r in real)
        return padding.low > best or (not several and padding.low >= best)

    dims = call.dims()
    _check_places(call, value, dims, several)
    results = [_reduced(call, value, dims, neutral, lambda cells, _: hull(cells), "takes the extreme")]
    if several:
        most = lambda _, count: Range(0, count - 1)  # noqa: E731
        results.append(_reduced(call, value, dims, neutral, most, "takes the extreme", 1))
    return results


def _check_places(call: Call, value: Value, dims: Sequence[int], counted: bool) -> None:
    for axis in (value.axes[d] for d in dims) if counted else ():
        if axis is not None and (not axis.is_simple or len(dims) > 1):
            raise Unproven("it gives places in a merged dimension, which padding moves")


@rule("argmax", "argmin")
def _place(call: Call) -> list[Value]:
    value: Value = call["self"]
    dims = call.dims()
    _check_places(call, value, dims, True)
    largest = call.name == "argmax"

    def neutral(p: Range, real: Cells) -> bool:
        if p.nan:
            return False
        return p.high < max(r.low for r in real) if largest else p.low > min(r.high for r in real)

    return [_reduced(call, value, dims, neutral, lambda _, count: Range(0, count - 1), "takes the extreme")]


@rule("any")
def _any(call: Call) -> list[Value]:
    def combine(cells: Cells, _: float) -> Range:
        whole = hull(cells)
        return truth(whole.low <= 0 <= whole.high, not whole.is_zero) if len(cells) == 1 else BOOL

    return [_reduced(call, call["self"], call.dims(), lambda p, _: p.is_zero, combine, "asks for any")]


@rule("all")
def _all(call: Call) -> list[Value]:
    neutral = lambda p, _: not p.low <= 0 <= p.high and not p.nan  # noqa: E731
    return [_reduced(call, call["self"], call.dims(), neutral, lambda *_: BOOL, "asks for all")]


@rule("prod")
def _prod(call: Call) -> list[Value]:
    one = lambda p, _: p.constant == 1  # noqa: E731
    return [_reduced(call, call["self"], call.dims(), one, lambda *_: call.everything(), "multiplies")]


@rule("logsumexp")
def _logsumexp(call: Call) -> list[Value]:
    value: Value = call["self"]
    gap = call.limits.gap(value.dtype)
    combine = lambda cells, _: call.row_range((hull(cells), value.dtype))  # noqa: E731
    return [_reduced(call, value, call.dims(), lambda p, real: vanishes(p, real, gap), combine, "sums")]


@rule("var", "std", "norm", "linalg_vector_norm", "linalg_norm")
def _spread(call: Call) -> list[Value]:
    value: Value = call["self"]
    dims = call.dims()
    call.require_unpadded(value, dims, f"it measures numbers over '{call.symbol}', with those of the padding")

    def combine(cells: Cells, _: float) -> Range:
        whole = call.row_range((hull(cells), value.dtype))
        return replace(whole, low=0)

    return [_reduced(call, value, dims, lambda p, _: False, combine, "measures")]


@rule("softmax", "_softmax", "_safe_softmax", "log_softmax", "_log_softmax")
def _softmax(call: Call) -> list[Value]:
    value: Value = call["self"]
    (d,) = call.dims()
    log = "log" in call.name
    low, high = (-math.inf, 1) if log else (0, 1.01)
    gap = call.limits.gap(call.outputs[0].dtype)
    axis = value.axes[d]

    def ranges(cell: dict[int, str]) -> Range:
        others = {i: kind for i, kind in cell.items() if i != d}
        row = {kind: value.at({**others, d: kind}) for kind in (HEAD + REAL + PAD if axis is not None else REAL)}
        whole = hull(row.values())
        hidden = is_real(others) and axis is not None
        if hidden and not vanishes(row[PAD], [row[HEAD], row[REAL]], gap):
            raise Unproven(_unhidden(call, row[PAD]))
        empty = max(r.low for r in row.values()) == -math.inf and "_safe" not in call.name
        nan = whole.nan or whole.high == math.inf or empty
        nothing = hidden and cell.get(d) == PAD
        return Range(low, high if not nothing or log else 0, nan, whole.of_data)

    return [call.result(value.axes, ranges)]


def _unhidden(call: Call, padding: Range) -> str:
    held = f"{padding.low:.3g} to {padding.high:.3g}"
    if padding.high < -(2.0**64):  # low enough, but what is shown may be as low
        return (
            f"it is a softmax over padded '{call.symbol}', whose padding ({held}) is not known to be beside higher "
            f"numbers, as it is with a mask of bools or integers"
        )
    return (
        f"it is a softmax over padded '{call.symbol}', whose padding ({held}) is not known to be hidden by -inf or a "
        f"number as low as torch.finfo(dtype).min"
    )


@rule("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")
def _scan(call: Call) -> list[Value]:
    value: Value = call["self"]
    (d,) = call.dims()
    axis = value.axes[d]
    if axis is not None and not axis.is_simple:
        raise Unproven("it runs along a merged dimension")
    total = _total(call) if call.name == "cumsum" else lambda *_: ANY
    count = call.padding.largest(value.shape[d])

    def ranges(cell: dict[int, str]) -> Range:
        others = {i: kind for i, kind in cell.items() if i != d}
        if axis is None:
            return total([value.at(cell)], count)
        if cell[d] == HEAD:
            return value.at(cell)
        return total([value.at({**others, d: k}) for k in (REAL if cell[d] == REAL else REAL + PAD)], count)

    results = [call.result(value.axes, ranges)]
    if len(call.outputs) > 1:
        results.append(call.result(value.axes, lambda _: Range(0, count - 1), 1))
    return results
