"""Rows selected by an index at run time are gathered before the op that computes all rows."""

from __future__ import annotations

import math

from ..graph import Graph, Op, Shape, Value, View, whole


def gather_first(graph: Graph, op: Op) -> None:
    """If a gather of rows is the only reader of ``op``, it moves before ``op`` and gathers rows of the operand. ``op``
    then computes the rows that the gather had selected."""
    value = op.out.value
    gather = graph.only_reader(value)
    if gather is None or gather.kind != "gather" or not _makes_all(graph, op) or not _gathers_rows(gather, value):
        return
    rows, result = gather.inputs[0], gather.out
    assert rows is not None
    count = math.prod(result.shape[:-1])
    if not gather.out.is_dense or not 0 < count < math.prod(rows.shape[:-1]) or _comes_later(graph, op, gather):
        return
    by_rows = _by_rows(op, rows.shape, count)
    if by_rows is None:
        return
    operand, inputs, at = by_rows
    width = operand.shape[-1]
    chosen = graph.temp(f"{operand.value.name}.rows", operand.dtype, (*result.shape[:-1], width))
    inputs[at] = whole(chosen).reshape((count, width))
    op = graph.change(op, inputs=inputs, outputs=[result.reshape((count, result.shape[-1]))], hints={})
    indices = [_widened(v, width) for v in gather.inputs[1:]]
    graph.move(graph.change(gather, inputs=[operand, *indices], outputs=[whole(chosen)]), before=op)


def _makes_all(graph: Graph, op: Op) -> bool:
    return len(list(op.writes())) == 1 and op.out.is_dense and op.out.rank > 1 and len(graph.writers(op.out.value)) == 1


def _gathers_rows(gather: Op, value: Value) -> bool:
    """Whether the gather reads whole rows of the whole value, without an index in the last dimension."""
    x, out, dims = gather.inputs[0], gather.out, gather.attrs["dims"]
    if x is None or x.value is not value or not x.is_dense or x.rank < 2 or out.rank < 1:
        return False
    indices = gather.inputs[1:]
    if any(v is None or v.value is value or (v.shape[-1] > 1 and v.strides[-1]) for v in indices):
        return False
    return dims[-1] == out.rank - 1 and out.shape[-1] == x.shape[-1] and out.rank - 1 not in dims[:-1]


def _comes_later(graph: Graph, op: Op, gather: Op) -> bool:
    """Whether an index is computed only after ``op``."""
    at = graph.position(op)
    return any(graph.position(w) > at for v in gather.inputs[1:] if v for w in graph.writers(v.value))


def _by_rows(op: Op, rows: Shape, count: int) -> tuple[View, list[View | None], int] | None:
    """For an op whose rows each depend on one row of one operand: that operand with these ``rows``, all operands for
    ``count`` rows, and the number of the operand."""
    if op.out.shape[-1] != rows[-1]:
        return None
    at = next((i for i, v in enumerate(op.inputs) if op.kind == "map" and not _is_shared(v)), 0)
    inputs: list[View | None] = []
    if op.kind == "matmul" and not op.attrs.get("epilogue"):
        b = op.inputs[1]
        if b is None or any(n > 1 and s for n, s in zip(b.shape[:-2], b.strides[:-2], strict=True)):
            return None
        shared = View(b.value, b.shape[-2:], b.strides[-2:], b.offset)
        inputs = [None, shared, *(_flat(v, count) for v in op.inputs[2:3]), *op.inputs[3:]]
    elif op.kind == "norm" and op.attrs["kind"] != "group" and op.attrs.get("axes", 1) == 1:
        inputs = list(op.inputs)
    elif op.kind == "map" and op.inputs and all(_is_shared(v) for i, v in enumerate(op.inputs) if i != at):
        inputs = [_flat(v, count) for v in op.inputs]
    else:
        return None
    x = op.inputs[at]
    operand = None if x is None else x.reshape((*rows[:-1], x.shape[-1]))
    return None if operand is None else (operand, inputs, at)


def _is_shared(view: View | None) -> bool:
    """Whether all rows are the same."""
    return view is None or all(n <= 1 or s == 0 for n, s in zip(view.shape[:-1], view.strides[:-1], strict=True))


def _flat(view: View | None, count: int) -> View | None:
    """What all rows share, repeated for ``count`` rows."""
    return None if view is None else View(view.value, (count, view.shape[-1]), (0, view.strides[-1]), view.offset)


def _widened(index: View | None, width: int) -> View | None:
    if index is None:
        return None
    return View(index.value, (*index.shape[:-1], width), (*index.strides[:-1], 0), index.offset)
