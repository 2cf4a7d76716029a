"""Lets a float32 model compute in half precision; see ``compile(compute_dtype=...)``.

Inputs and outputs, vectors of weights (biases, scales, frequencies), and values that depend only on integers and such
vectors, such as the angles of rotary embeddings, stay in float32. So do inputs that are positions: half precision has
too few for an image.
"""

from __future__ import annotations

from ..graph import Graph, Op, Value, View, whole

_DATA = {"matmul": 2, "conv": 2, "scatter": 2}
"""How many leading inputs have the dtype of the output; for other ops, one."""


def narrow(graph: Graph, dtype: str) -> None:
    low = _reached(graph)
    sources = [v for v in (*graph.inputs, *graph.weights, *graph.constants) if v in low]
    for value in low - set(sources):
        value.dtype = dtype
    narrowed = {value: graph.temp(f"{value.name}.{dtype}", dtype, value.shape) for value in sources}
    for value, half in narrowed.items():
        graph.read_instead(value, half)
    first = next(iter(graph.main), None)
    for value, half in narrowed.items():
        graph.insert(_conversion(half.name, whole(value), whole(half)), before=first)
    for op in graph.main:
        _match(graph, op, dtype)
    for output in graph.outputs:
        if output.value in low:
            widened = graph.temp(f"{output.value.name}.float32", "float32", output.value.shape)
            graph.append(_conversion(widened.name, whole(output.value), whole(widened)))
            output.value = widened


def _reached(graph: Graph) -> set[Value]:
    """float32 values that an input or a matrix of weights flows into."""
    low = {v for v in graph.inputs if v.dtype == "float32" and not _only_positions(graph, v)}
    low |= {v for v in (*graph.weights, *graph.constants) if v.dtype == "float32" and len(v.shape) >= 2}
    quantized = [op for op in graph.main if op.kind == "dequantize"]
    low -= {view.value for op in quantized for view in op.reads()}  # scales and offsets
    low |= {op.out.value for op in quantized if op.out.dtype == "float32"}
    known = -1
    while known != len(low):  # a value that several ops write is decided by any of them
        known = len(low)
        for op in graph.main:
            if any(view.value in low for view in op.inputs if view is not None):
                low.update(view.value for view in op.writes() if view.dtype == "float32")
    return low


def _only_positions(graph: Graph, value: Value) -> bool:
    readers = graph.readers(value)
    return bool(readers) and all(op.kind == "grid_sample" and next(op.reads()).value is not value for op in readers)


def _match(graph: Graph, op: Op, dtype: str) -> None:
    """Converts the operands that must have the dtype of the result."""
    if op.kind == "map":
        return
    if op.kind == "copy" and op.inputs[0] is not None and op.inputs[0].dtype != op.out.dtype:
        graph.change(op, kind="map", attrs={"expr": [["in", 0]]})
        return
    if all(view.dtype != dtype for view in (*op.reads(), *op.writes())):
        return
    inputs = list(op.inputs)
    for i, view in enumerate(inputs[: _DATA.get(op.kind, 1)]):
        if view is not None and view.dtype == "float32":
            half = whole(graph.temp(f"{view.value.name}.{dtype}", dtype, view.shape))
            graph.insert(_conversion(half.value.name, view, half), before=op)
            inputs[i] = half
    if tuple(inputs) != op.inputs:
        graph.change(op, inputs=inputs)


def _conversion(name: str, x: View, out: View) -> Op:
    return Op("map", f"{name}.cast", (x,), (out,), {"expr": [["in", 0]]})
