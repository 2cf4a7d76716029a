"""Writes a finished graph as a program."""

from __future__ import annotations

from typing import Any

from .compiled_program import CompiledProgram
from .exprs import number
from .graph import Graph, Op, Value, View, dense_strides

PRODUCER = "npu_compiler 0.1.0"


def emit(graph: Graph) -> CompiledProgram:
    used = {view.value for op in graph.ops() for view in (*op.reads(), *op.writes())}
    weights = [w for w in graph.weights if w in used]
    constants = [c for c in graph.constants if c in used]
    ids: dict[Value, int] = {}
    for value in (*graph.inputs, *weights, *constants):
        ids[value] = len(ids)
    for op in graph.ops():
        for view in op.writes():
            ids.setdefault(view.value, len(ids))
    section = bytearray()
    entries = [_constant(c, graph.label(c), ids[c], section) for c in constants]
    ties: dict[str, list[str]] = {}
    for other, name in graph.ties.items():
        ties.setdefault(name, []).append(other)
    data = {
        "model_name": graph.model_name,
        "producer": PRODUCER,
        "symbols": [],
        "values": [{"name": v.name, "dtype": v.dtype, "shape": list(v.shape)} for v in ids],
        "inputs": [
            {"name": graph.label(v), "value": ids[v], "required": v in used and v not in graph.buffers,
             "state": v in graph.state}
            for v in graph.inputs
        ],
        "outputs": [
            {"name": o.name, "value": ids[o.value], "names": o.names,
             "alias": None if o.alias is None else graph.inputs.index(o.alias)}
            for o in graph.outputs
        ],
        "weights": [
            {"name": graph.label(w), "value": ids[w], "ties": ties.get(graph.label(w), [])} for w in weights
        ],
        "constants": entries,
        "prepare": [_op(op, ids) for op in graph.prepare],
        "main": [_op(op, ids) for op in graph.main],
        "weight_name_mapping": graph.name_mapping,
    }  # fmt: skip
    return CompiledProgram(data, bytes(section))


def _constant(value: Value, name: str, at: int, section: bytearray) -> dict[str, Any]:
    section += b"\0" * (-len(section) % 64)
    offset = len(section)
    assert value.data is not None
    section += value.data.tobytes()
    return {"name": name, "value": at, "offset": offset}


def _op(op: Op, ids: dict[Value, int]) -> dict[str, Any]:
    inputs = [_operand(v, ids) for v in op.inputs]
    while inputs and inputs[-1] is None:
        inputs.pop()
    record: dict[str, Any] = {
        "op": op.kind,
        "name": op.name,
        "in": inputs,
        "out": [_operand(v, ids) for v in op.outputs],
        "attrs": {k: _attr(v) for k, v in op.attrs.items()},
    }
    if op.nodes:
        record["nodes"] = list(op.nodes)
    if op.module:
        record["module"] = op.module
    return record


def _attr(value: Any) -> Any:
    return number(value) if isinstance(value, float) else value


def _operand(view: View | None, ids: dict[Value, int]) -> Any:
    if view is None:
        return None
    at = ids[view.value]
    if view.is_whole:
        return at
    if not view.elements:
        return [at, list(view.shape), [0] * view.rank, 0]
    dense = dense_strides(view.shape)  # strides of extent 1 are arbitrary; write dense ones where possible
    same = all(n <= 1 or s == d for n, s, d in zip(view.shape, view.strides, dense, strict=True))
    return [at, list(view.shape), list(dense if same else view.strides), view.offset]
