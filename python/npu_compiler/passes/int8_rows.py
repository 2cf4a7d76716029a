"""Attention reads int8 keys and values with a scale for each row, as quantised caches have them, as they are stored."""

from __future__ import annotations

from ..graph import Graph, Op, View, remap
from .match import first, step_names

_FLOATS = ("float32", "float16", "bfloat16")


def read_int8_rows(graph: Graph, op: Op) -> Op:
    """``op`` is an attention. Keys and values both become int8, or neither."""
    q, k, v, *more = op.inputs
    mask = more[0] if more else None
    if len(more) > 1 or k is None or v is None or not k.elements or not v.elements:
        return op
    keys, values = _stored(graph, k), _stored(graph, v)
    if keys is None or values is None:
        return op
    return graph.change(op, inputs=(q, keys[0], values[0], mask, keys[1], values[1]))


def _stored(graph: Graph, rows: View) -> tuple[View, View] | None:
    """The int8 view and the scales of its rows, if their product is ``rows``, rounded or not."""
    product = _before_casts(graph, rows, _FLOATS)
    op = graph.dense_maker(product)
    if op is None or product is None or step_names(op) != ["in", "in", "mul"] or len(op.inputs) != 2:
        return None
    for integers, scales in (op.inputs, op.inputs[::-1]):
        assert integers is not None and scales is not None
        stored = _before_casts(graph, remap(product, integers), ("float32",))
        scale = remap(product, scales)
        if stored is None or stored.dtype != "int8" or scale is None or scale.dtype != "float32":
            continue
        if scale.shape[-1] == 1 or scale.strides[-1] == 0:
            return stored, scale.slice(scale.rank - 1, 0, 1).drop(scale.rank - 1)
    return None


def _before_casts(graph: Graph, view: View | None, dtypes: tuple[str, ...]) -> View | None:
    """What the view was converted from, while it has one of these dtypes."""
    while view is not None and view.dtype in dtypes:
        op = graph.dense_maker(view)
        if op is None or op.kind != "map" or [step[0] for step in op.attrs["expr"]] != ["in", "cast"]:
            break
        view = remap(view, first(op))
    return view
