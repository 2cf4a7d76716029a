"""Dead code, common subexpressions, and ops that need to run only once."""

from __future__ import annotations

import json
from typing import Any

from ..graph import Graph, Op, Value
from ..opset import OPS


def dead_code(graph: Graph) -> None:
    live = graph.output_values()
    for ops in (graph.main, graph.prepare):
        for op in reversed(ops):
            if any(view.value in live for view in op.writes()):
                live.update(view.value for view in op.reads())
            else:
                graph.remove(op)
    for op in graph.ops():
        if len(op.outputs) > 1:
            _drop_unread(graph, op, live)


def _drop_unread(graph: Graph, op: Op, live: set[Value]) -> None:
    """Drops optional results that nobody reads."""
    wanted = [
        None if view is not None and view.value not in live and OPS[op.kind].outputs[i].endswith("?") else view
        for i, view in enumerate(op.outputs)
    ]
    while wanted and wanted[-1] is None:
        wanted.pop()
    if tuple(wanted) != op.outputs:
        graph.change(op, outputs=wanted)


def cse(graph: Graph) -> None:
    """Replaces equal ops by the first of them."""
    alike: dict[Any, Op | None] = {}  # by all but attributes, as long as there is only one
    seen: dict[Any, Op] = {}
    outputs = graph.output_values()
    for op in graph.main:
        if any(v is None or not v.is_whole or v.value in outputs for v in op.outputs):
            continue
        key = (op.kind, op.inputs, tuple((v.dtype, v.shape) for v in op.writes()))
        if key not in alike:
            alike[key] = op
            continue
        lone, alike[key] = alike[key], None
        if lone is not None:
            seen[key, json.dumps(lone.attrs)] = lone
        first = seen.setdefault((key, json.dumps(op.attrs)), op)
        if first is not op:
            graph.remove(op)
            for new, old in zip(op.writes(), first.writes(), strict=True):
                graph.read_instead(new.value, old.value)


def hoist(graph: Graph) -> None:
    """Moves ops that depend only on weights and constants to ``prepare``."""
    changing = changing_values(graph)
    for op in graph.main:
        if not any(v.value in changing for v in op.writes()):
            graph.move(op, ops=graph.prepare)


def changing_values(graph: Graph) -> set[Value]:
    """What depends on more than weights and constants, and outputs, which ``main`` must make."""
    changing: set[Value] = {*graph.inputs, *graph.output_values()}
    known = -1
    while known != len(changing):  # a value that several ops write moves only if all of them do
        known = len(changing)
        for op in graph.main:
            if any(v.value in changing for v in (*op.reads(), *op.writes())):
                changing.update(view.value for view in op.writes())
    return changing
