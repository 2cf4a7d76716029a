"""Finds the outputs that update an input in place."""

from __future__ import annotations

from ..graph import Graph, Op, Output, Value, View, whole
from ..opset import OPS

UPDATED = {
    (kind, result): operand
    for kind, op in OPS.items()
    for entry in op.in_place
    if not entry.elementwise
    for result, operand, _ in (op.in_place_operands(entry),)
}
"""By op and result: the operand that the result updates."""


def alias(graph: Graph) -> None:
    taken = {output.alias for output in graph.outputs if output.alias is not None}
    for output in list(graph.outputs):
        update = _update(graph, output.value)
        if output.alias is None:
            if update is None or update in taken or update not in graph.inputs:
                continue
            output.alias = update
            taken.add(update)
        elif update is not output.alias:
            _write_back(graph, output)
        if output.alias is not None:
            graph.state.add(output.alias)


def _update(graph: Graph, value: Value) -> Value | None:
    """The value that ``value`` updates, if nobody reads it later."""
    op = graph.maker(whole(value))
    if op is None:
        return None
    at = next(i for i, v in enumerate(op.outputs) if v is not None and v.value is value)
    source, result = UPDATED.get((op.kind, at)), op.outputs[at]
    if source is None or len(op.inputs) <= source or result is None or not result.is_whole:
        return None
    x = op.inputs[source]
    if x is None or not x.is_whole or (x.value.shape, x.dtype) != (value.shape, value.dtype):
        return None
    if any(v is not None and v.value is x.value for i, v in enumerate(op.inputs) if i != source):
        return None
    return x.value if graph.readers(x.value)[-1] is op else None


def _write_back(graph: Graph, output: Output) -> None:
    """Copies at the end of the program, when nobody needs the old contents."""
    value = graph.temp(output.name, output.value.dtype, output.value.shape)
    source: View = whole(output.value)
    graph.append(Op("copy", graph.unique(f"{value.name}.update"), (source,), (whole(value),)))
    output.value = value
