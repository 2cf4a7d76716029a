"""Elementwise work on the result of a convolution or product happens where the result is made."""

from __future__ import annotations

from ..exprs import Expression, class_of
from ..graph import Graph, Op, View
from .match import same
from .rounding import rounded_values

MAX_EXTRA = 4


def fuse_epilogues(graph: Graph) -> None:
    outputs, readers = graph.output_values(), graph.readers()
    makers = {
        op.out.value: (i, op) for i, op in enumerate(graph.main) if op.kind in ("conv", "matmul") and op.out.is_whole
    }
    gone: set[int] = set()
    rounded = rounded_values(graph)
    for at, op in enumerate(graph.main):
        if op.kind != "map":
            continue
        found = [makers[v.value] for v in op.reads() if v.value in makers]
        # The latest of them: what the others made exists by then.
        for i, maker in sorted(found, key=lambda entry: -entry[0]):
            value = maker.out.value
            if value in outputs or len(readers[value]) != 1 or value.dtype != op.out.dtype:
                continue
            fused = _fused(maker, op, value in rounded) or _fused_halves(maker, op, value in rounded)
            if fused is None:
                continue
            graph.main[at] = fused
            gone.add(i)
            makers.pop(value)
            if fused.out.is_whole:
                makers[fused.out.value] = (at, fused)
            break
    graph.main = [op for i, op in enumerate(graph.main) if i not in gone]


def _fused_halves(maker: Op, op: Op, rounded: bool) -> Op | None:
    """Where the map pairs each column of the first half with one of the second."""
    value, shape = maker.out.value, maker.out.shape
    if maker.kind != "matmul" or maker.attrs.get("epilogue") or shape[-1] % 2:
        return None
    n = shape[-1] // 2
    last = len(shape) - 1
    halves = [maker.out.slice(last, 0, n), maker.out.slice(last, n, n)]
    expr, steps = Expression(), {}
    extra: list[View] = []
    for k, view in enumerate(op.reads()):
        other = view.reshape(halves[0].shape)
        if other is None:
            return None
        if view.value is value:
            half = next((i for i, wanted in enumerate(halves) if same(other, wanted)), None)
            if half is None:
                return None
            steps[k] = expr.load(half, "f")
            if rounded:
                steps[k] = expr.cast(steps[k], value.dtype)
            continue
        if other not in extra:
            extra.append(other)
        steps[k] = expr.load(extra.index(other) + 2, class_of(other.dtype))
    out = op.out.reshape(halves[0].shape)
    read = {view.offset for view in op.reads() if view.value is value}
    if out is None or len(extra) > MAX_EXTRA or read != {half.offset for half in halves}:
        return None
    epilogue = expr.finish(expr.inline(op.attrs["expr"], steps))
    inputs = [*maker.inputs[:3], *[None] * (3 - len(maker.inputs[:3])), *extra]
    nodes = tuple(dict.fromkeys(maker.nodes + op.nodes))
    return Op("matmul", maker.name, inputs, [out], {"halves": True, "epilogue": epilogue}, nodes, maker.module)


def _fused(maker: Op, op: Op, rounded: bool) -> Op | None:
    shape, value = maker.out.shape, maker.out.value
    if maker.attrs.get("halves"):
        return None
    expr = Expression()
    result = expr.load(0, "f")
    extra: list[View] = [v for v in maker.inputs[3:] if v is not None]
    if maker.attrs.get("epilogue"):
        loads = {0: result} | {k + 1: expr.load(k + 1, class_of(v.dtype)) for k, v in enumerate(extra)}
        result = expr.inline(maker.attrs["epilogue"], loads)
    if rounded:
        result = expr.cast(result, value.dtype)
    steps: dict[int, int] = {}
    for k, view in enumerate(op.reads()):
        other = view.reshape(shape)
        if other is None:
            return None
        if view.value is value:
            if not other.is_whole:
                return None
            steps[k] = result
            continue
        if other not in extra:
            extra.append(other)
        steps[k] = expr.load(extra.index(other) + 1, class_of(other.dtype))
    out = op.out.reshape(shape)
    if out is None or len(extra) > MAX_EXTRA:
        return None
    epilogue = expr.finish(expr.inline(op.attrs["expr"], steps))
    inputs = [*maker.inputs[:3], *[None] * (3 - len(maker.inputs[:3])), *extra]
    nodes = tuple(dict.fromkeys(maker.nodes + op.nodes))
    return Op(maker.kind, maker.name, inputs, [out], {**maker.attrs, "epilogue": epilogue}, nodes, maker.module)
