"""Elementwise ops on the result of a convolution or product become its epilogue."""

from __future__ import annotations

from typing import Any

from ..exprs import Expression, class_of
from ..graph import Graph, Op, View, nodes_of, same
from ..opset import OPS
from .rounding import rounded_values

MAX_EXTRA = 4


def fuse_epilogues(graph: Graph) -> None:
    outputs = graph.output_values()
    rounded = rounded_values(graph)
    for op in graph.main:
        if op.kind != "map":
            continue
        makers = {view.value: graph.maker(view) for view in op.reads()}
        products = [m for m in makers.values() if m is not None and m.kind in ("conv", "matmul") and m.out.is_whole]
        products = [m for m in products if class_of(m.out.dtype) == "f"]
        # The latest first, because the results of the others exist by then.
        for maker in sorted(products, key=graph.position, reverse=True):
            value = maker.out.value
            if value in outputs or len(graph.readers(value)) != 1 or value.dtype != op.out.dtype:
                continue
            fused = _fused(maker, op, value in rounded) or _fused_halves(maker, op, value in rounded)
            if fused is not None:
                graph.merge([maker, op], fused)
                break


def _fused_halves(maker: Op, op: Op, rounded: bool) -> Op | None:
    """A map that combines each column of the first half with one of the second, as in gated products."""
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
    attrs = {**maker.attrs, "halves": True, "epilogue": expr.finish(expr.inline(op.attrs["expr"], steps))}
    return _with_epilogue(maker, op, extra, out, attrs)


def _fused(maker: Op, op: Op, rounded: bool) -> Op | None:
    shape, value = maker.out.shape, maker.out.value
    if maker.attrs.get("halves"):
        return None
    expr = Expression()
    result = expr.load(0, "f")
    extra: list[View] = [v for v in maker.inputs[OPS[maker.kind].expr_operand :] if v is not None]
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
    attrs = {**maker.attrs, "epilogue": expr.finish(expr.inline(op.attrs["expr"], steps))}
    return _with_epilogue(maker, op, extra, out, attrs)


def _with_epilogue(maker: Op, op: Op, extra: list[View], out: View, attrs: dict[str, Any]) -> Op:
    first = OPS[maker.kind].expr_operand
    own = maker.inputs[:first]
    inputs = (*own, *[None] * (first - len(own) if extra else 0), *extra)
    return Op(maker.kind, maker.name, inputs, (out,), attrs, nodes_of(maker, op), maker.module)
