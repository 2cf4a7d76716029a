"""Which outputs are updates of inputs in place."""

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
"""By op and result: the operand that the result is an update of."""


def alias(graph: Graph) -> None:
    last_read: dict[Value, int] = {}
    for i, op in enumerate(graph.main):
        for view in op.reads():
            last_read[view.value] = i
    taken = {output.alias for output in graph.outputs if output.alias is not None}
    for output in list(graph.outputs):
        update = _update(graph, output.value)
        if output.alias is None:
            x = None if update is None else update[1]
            if update is None or x in taken or x not in graph.inputs or last_read[update[1]] != update[0]:
                continue
            output.alias = update[1]
            taken.add(update[1])
        elif update is None or update[1] is not output.alias or last_read[output.alias] != update[0]:
            _write_back(graph, output)
        if output.alias is not None:
            graph.state.add(output.alias)


def _update(graph: Graph, value: Value) -> tuple[int, Value] | None:
    """Where ``value`` is written and the input that it is an update of."""
    found = [(i, op) for i, op in enumerate(graph.main) for v in op.writes() if v.value is value]
    if len(found) != 1:
        return None
    at, op = found[0]
    place = next(i for i, v in enumerate(op.outputs) if v is not None and v.value is value)
    source, result = UPDATED.get((op.kind, place)), op.outputs[place]
    if source is None or len(op.inputs) <= source or result is None or not result.is_whole:
        return None
    x = op.inputs[source]
    if x is None or not x.is_whole or (x.value.shape, x.dtype) != (value.shape, value.dtype):
        return None
    if any(v is not None and v.value is x.value for i, v in enumerate(op.inputs) if i != source):
        return None
    return at, x.value


def _write_back(graph: Graph, output: Output) -> None:
    """After everything else, when nobody needs the old contents."""
    value = graph.temp(output.name, output.value.dtype, output.value.shape)
    source: View = whole(output.value)
    graph.main.append(Op("copy", graph.unique(f"{value.name}.update"), [source], [whole(value)]))
    output.value = value
