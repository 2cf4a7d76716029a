"""A float32 model computes in a half dtype inside; see ``compile(compute_dtype=...)``.

What stays in float32: inputs and outputs, vectors of weights (biases, scales, frequencies), and whatever depends on
nothing but integers and such vectors, as the angles of rotary embeddings do.
"""

from __future__ import annotations

from ..graph import Graph, Op, Value, View, whole

_DATA = {"matmul": 2, "conv": 2, "scatter": 2}
"""How many leading inputs share the dtype of the output; one, where not said."""


def narrow(graph: Graph, dtype: str) -> None:
    low = _reached(graph)
    sources = [v for v in (*graph.inputs, *graph.weights, *graph.constants) if v in low]
    ops: list[Op] = []
    halves: dict[Value, Value] = {}
    for value in sources:
        halves[value] = graph.temp(f"{value.name}.{dtype}", dtype, value.shape)
        ops.append(_convert(f"{value.name}.{dtype}", whole(value), whole(halves[value])))
    for value in low - set(sources):
        value.dtype = dtype
    for op in graph.main:
        op.inputs = [
            View(halves[v.value], v.shape, v.strides, v.offset) if v is not None and v.value in halves else v
            for v in op.inputs
        ]
        ops += _matched(graph, op, dtype)
    for output in graph.outputs:
        if output.value in low:
            wide = graph.temp(f"{output.value.name}.float32", "float32", output.value.shape)
            ops.append(_convert(wide.name, whole(output.value), whole(wide)))
            output.value = wide
    graph.main = ops


def _reached(graph: Graph) -> set[Value]:
    """float32 values that an input or a matrix of weights flows into."""
    low = {v for v in graph.inputs if v.dtype == "float32"}
    low |= {v for v in (*graph.weights, *graph.constants) if v.dtype == "float32" and len(v.shape) >= 2}
    known = -1
    while known != len(low):  # a value that several ops write is decided by any of them
        known = len(low)
        for op in graph.main:
            if any(view.value in low for view in op.inputs if view is not None):
                low.update(view.value for view in op.writes() if view.dtype == "float32")
    return low


def _matched(graph: Graph, op: Op, dtype: str) -> list[Op]:
    """The op, after the conversions that make its operands agree."""
    if op.kind == "map":
        return [op]
    if op.kind == "copy" and op.inputs[0] is not None and op.inputs[0].dtype != op.out.dtype:
        op.kind, op.attrs = "map", {"expr": [["in", 0]]}
        return [op]
    if all(view.dtype != dtype for view in (*op.reads(), *op.writes())):
        return [op]
    before: list[Op] = []
    for i, view in enumerate(op.inputs[: _DATA.get(op.kind, 1)]):
        if view is not None and view.dtype == "float32":
            half = whole(graph.temp(f"{view.value.name}.{dtype}", dtype, view.shape))
            before.append(_convert(half.value.name, view, half))
            op.inputs[i] = half
    return [*before, op]


def _convert(name: str, x: View, out: View) -> Op:
    return Op("map", f"{name}.cast", [x], [out], {"expr": [["in", 0]]})
