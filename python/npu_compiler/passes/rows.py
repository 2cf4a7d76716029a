"""Rows that nobody reads are not computed: a selection of rows moves before the op that computes all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..graph import Graph, Op, Shape, Value, View, dense_strides, whole
from ..opset import OPS
from .row_gather import gather_first


def needed_rows(graph: Graph) -> None:
    outputs = graph.output_values()
    for op in reversed(graph.main):
        gather_first(graph, _narrow(graph, op, outputs))


@dataclass(frozen=True)
class _Walk:
    """Which elements of a dense value a view reads: ranges of positions, one for each dimension of the value.
    ``moves`` gives, for each dimension of the view, the value's dimension and the step, or None for broadcasting."""

    ranges: tuple[range, ...]
    moves: tuple[tuple[int, int] | None, ...]


def _narrow(graph: Graph, op: Op, outputs: set[Value]) -> Op:
    """For slices: the op computes only the smallest grid of rows that contains all rows that are read."""
    value = _made_alone(graph, op, outputs)
    if value is None or any(view.is_dense for view in _views(graph, value)):
        return op
    follows = _followers(op)
    if follows is None:
        return op
    order = _order(op.out)
    shape, walks = op.out.permute(order).shape, {}
    for view in _views(graph, value):
        walk = _walk(view, shape)
        if walk is None:
            return op
        walks[view] = walk
    if not walks:
        return op  # nobody reads it
    free = set().union(*follows)
    ranges = [[walk.ranges[i] for walk in walks.values()] for i in range(len(order))]
    kept = [_cover(ranges[i]) if d in free else range(shape[i]) for i, d in enumerate(order)]
    if all(len(r) == n for r, n in zip(kept, shape, strict=True)):
        return op
    smaller = graph.temp(value.name, value.dtype, map(len, kept))
    graph.relocate([value], lambda view: _moved(view, walks[view], kept, smaller), skip=[op])
    back = [order.index(d) for d in range(len(order))]
    inputs = [_sliced(v, dims, [kept[i] for i in back]) for v, dims in zip(op.inputs, follows, strict=True)]
    return graph.change(op, inputs=inputs, outputs=[whole(smaller).permute(back)], hints={})


def _made_alone(graph: Graph, op: Op, outputs: set[Value]) -> Value | None:
    """The op's only result, if no other op writes parts of it and it is not an output of the program."""
    if len(list(op.writes())) != 1 or not op.out.permute(_order(op.out)).is_dense or not op.out.elements:
        return None
    value = op.out.value
    return None if value in outputs or len(graph.writers(value)) != 1 else value


def _order(view: View) -> list[int]:
    """The dimensions in the order of memory, the outermost first."""
    if view.is_dense:
        return list(range(view.rank))
    return sorted(range(view.rank), key=lambda d: -view.strides[d] if view.shape[d] > 1 else -math.inf)


def _views(graph: Graph, value: Value) -> list[View]:
    return [view for reader in graph.readers(value) for view in reader.reads() if view.value is value]


def _followers(op: Op) -> list[set[int]] | None:
    """For each operand, the dimensions whose rows are those of the result; None for ops that mix all rows."""
    rows = OPS[op.kind].rows
    by_operand = rows(op.attrs, op.out.rank, len(op.inputs)) if rows else None
    if by_operand is None:
        return None
    rank = op.out.rank
    for view, dims in zip(op.inputs, by_operand, strict=True):
        if view is not None and any(view.rank != rank or view.shape[d] != op.out.shape[d] for d in dims):
            return None
    return by_operand


def _walk(view: View, shape: Shape) -> _Walk | None:
    """None if the view is not a grid along the dimensions of the value."""
    dense, rest = dense_strides(shape), view.offset
    if not view.elements or any(n > 1 and s < 0 for n, s in zip(view.shape, view.strides, strict=True)):
        return None
    starts = []
    for d in dense:
        starts.append(rest // d)
        rest %= d
    ranges = [range(start, start + 1) for start in starts]
    moves: list[tuple[int, int] | None] = []
    for n, stride in zip(view.shape, view.strides, strict=True):
        if n == 1 or not stride:
            moves.append(None)
            continue
        d = next((d for d, m in enumerate(shape) if m > 1 and dense[d] <= stride), -1)
        if d < 0 or stride % dense[d] or not _advance(ranges, shape, d, n, stride // dense[d]):
            return None
        moves.append((d, stride // dense[d]))
    return _Walk(tuple(ranges), tuple(moves))


def _advance(ranges: list[range], shape: Shape, d: int, count: int, step: int) -> bool:
    """Extends the ranges by ``count`` positions along dimension d, and along the one before it once d is read whole."""
    while True:
        start = ranges[d].start
        if len(ranges[d]) != 1:
            return False  # another dimension of the view goes there
        if start + step * (count - 1) < shape[d]:
            ranges[d] = range(start, start + step * (count - 1) + 1, step)
            return True
        if start or step != 1 or count % shape[d]:
            return False
        ranges[d] = range(shape[d])
        count //= shape[d]
        d = next((e for e in reversed(range(d)) if shape[e] > 1), -1)
        if d < 0:
            return False


def _cover(ranges: Iterable[range]) -> range:
    """The smallest range that contains all of these."""
    covered = list(ranges)
    low, high = min(r.start for r in covered), max(r[-1] for r in covered)
    step = math.gcd(*(r.start - low for r in covered), *(r.step for r in covered if len(r) > 1))
    return range(low, high + 1, step or 1)


def _moved(view: View, walk: _Walk, kept: list[range], smaller: Value) -> View:
    dense = dense_strides(smaller.shape)
    offset = sum(keep.index(r.start) * d for r, keep, d in zip(walk.ranges, kept, dense, strict=True))
    strides = [0 if move is None else move[1] // kept[move[0]].step * dense[move[0]] for move in walk.moves]
    return View(smaller, view.shape, tuple(strides), offset)


def _sliced(view: View | None, dims: set[int], kept: list[range]) -> View | None:
    if view is not None:
        for d in dims:
            view = view.slice(d, kept[d].start, len(kept[d]), kept[d].step)
    return view
