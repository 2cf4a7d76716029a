"""A sum over an axis of a few elements becomes a map, which can be fused, and keeps the layout of what it reads."""

from __future__ import annotations

from ..exprs import Expression, Ref
from ..graph import Graph, Op, whole

LONGEST = 4
"""Sums of so few elements lose nothing in float32."""
_FLOATS = ("float32", "float16", "bfloat16")


def unroll_short_sums(graph: Graph) -> None:
    for op in list(graph.main):
        axis = _axis(op)
        if axis is not None:
            _unroll(graph, op, axis)


def _axis(op: Op) -> int | None:
    """The axis of a short sum of rows; None for all else."""
    if op.kind != "reduce" or op.attrs["kind"] != "sum" or len(op.attrs["axes"]) != 1 or not op.out.is_dense:
        return None
    x, axis = next(op.reads()), op.attrs["axes"][0]
    fits = 2 <= x.shape[axis] <= LONGEST and axis < x.rank - 1 and x.dtype in _FLOATS and op.out.dtype == x.dtype
    return axis if fits else None


def _unroll(graph: Graph, op: Op, axis: int) -> None:
    x, out = next(op.reads()), op.out
    parts = [x.slice(axis, i, 1).drop(axis) for i in range(x.shape[axis])]
    target = out.drop(axis)
    if not graph.is_output(out.value):  # without the axis, the value has the rank, and so the layout, of what is read
        target = whole(graph.temp(out.value.name, out.dtype, parts[0].shape))
        graph.relocate([out.value], lambda view: view.of(target.value), skip=[op])
    expr = Expression()
    names = {f"x{i}": Ref(expr.load(i, "f")) for i in range(len(parts))}
    steps = expr.finish(expr.eval(" + ".join(names), names))
    graph.replace(op, Op("map", op.name, tuple(parts), (target,), {"expr": steps}, op.nodes, op.module))
