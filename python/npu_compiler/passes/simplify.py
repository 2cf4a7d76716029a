"""Dead code, common subexpressions, and what can be computed once."""

from __future__ import annotations

import json
from typing import Any

from ..graph import Graph, Op, Value, View
from ..opset import OPS


def dead_code(graph: Graph) -> None:
    live = graph.output_values()
    for ops in (graph.main, graph.prepare):
        kept: list[Op] = []
        for op in reversed(ops):
            if any(view.value in live for view in op.writes()):
                kept.append(op)
                live.update(view.value for view in op.reads())
        ops[:] = reversed(kept)
        for op in ops:
            _drop_unread(op, live)


def _drop_unread(op: Op, live: set[Value]) -> None:
    """Second results that nobody reads are not asked for."""
    for i, view in enumerate(op.outputs):
        if view is not None and view.value not in live and OPS[op.kind].outputs[i].endswith("?"):
            op.outputs[i] = None
    while op.outputs and op.outputs[-1] is None:
        op.outputs.pop()


def replace(ops: list[Op], known: dict[Value, Value]) -> None:
    for op in ops:
        op.inputs = [
            View(known[v.value], v.shape, v.strides, v.offset) if v is not None and v.value in known else v
            for v in op.inputs
        ]


def cse(graph: Graph) -> None:
    """Of equal ops the first serves all."""
    seen: dict[Any, Op] = {}
    known: dict[Value, Value] = {}
    outputs = graph.output_values()
    kept = []
    for op in graph.main:
        replace([op], known)
        whole = all(v is not None and v.is_whole and v.value not in outputs for v in op.outputs)
        if whole:
            key = (op.kind, tuple(op.inputs), json.dumps(op.attrs), tuple((v.dtype, v.shape) for v in op.writes()))
            first = seen.setdefault(key, op)
            if first is not op:
                known.update({new.value: old.value for new, old in zip(op.writes(), first.writes(), strict=True)})
                continue
        kept.append(op)
    graph.main = kept


def hoist(graph: Graph) -> None:
    """What depends on weights and constants only moves to ``prepare``."""
    changing: set[Value] = {*graph.inputs, *graph.output_values()}
    known = -1
    while known != len(changing):  # a value that several ops write moves only if all of them do
        known = len(changing)
        for op in graph.main:
            if any(v.value in changing for v in (*op.reads(), *op.writes())):
                changing.update(view.value for view in op.writes())
    moved = [op for op in graph.main if not any(v.value in changing for v in op.writes())]
    graph.prepare += moved
    gone = set(map(id, moved))
    graph.main = [op for op in graph.main if id(op) not in gone]
