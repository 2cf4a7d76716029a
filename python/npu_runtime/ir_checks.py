"""Checks IR dicts before a DAGExecutor reads them. Errors name the node and the field that is wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from npu_runtime.errors import InvalidTypeError, InvalidValueError, format_error

__all__ = ["check_ir", "check_nodes"]

_TENSORS = {"graph_inputs": "graph input", "graph_outputs": "graph output", "weights": "weight"}
_OPTIONAL: dict[str, type] = {
    "weight_name_mapping": Mapping, "ties": Mapping, "constants": Mapping, "mutations": Sequence,
    "output_names": Sequence,
}  # fmt: skip
_KINDS: dict[type, str] = {str: "a string", Sequence: "a list", Mapping: "a dict"}


def check_ir(ir: Mapping[str, Any], parts: Sequence[Any] = ()) -> None:
    """Check the fields that a DAGExecutor reads, and that the names in them exist; also in the nodes of ``parts``."""
    for key, what in _TENSORS.items():
        _check_tensors(_field(ir, key, Sequence, "the IR"), what)
    check_nodes(_field(ir, "nodes", Sequence, "the IR"))
    for key, kind in _OPTIONAL.items():
        _optional(ir, key, kind, "the IR")
    for name in ir.get("output_names") or ():
        if name is not None and not isinstance(name, str):
            raise _wrong("a name in 'output_names'", name, "a string or null")
    results = {tensor["name"] for node in ir["nodes"] for tensor in node["outputs"]}
    inputs = {tensor["name"] for tensor in ir["graph_inputs"]}
    weights = {tensor["name"] for tensor in ir["weights"]} | set(ir.get("constants") or ())
    mapping = ir.get("weight_name_mapping") or {}
    values = results | inputs | weights | set(mapping)
    operands = values | {node["name"] for node in ir["nodes"]}
    check_nodes(ir["nodes"], operands)
    for part in parts:
        check_nodes(part.nodes, operands)
    for name in mapping.values():
        if not isinstance(name, str) or name not in weights:
            raise _error(f"weight_name_mapping names {name!r}, which is not a weight")
    for tensor in ir["graph_outputs"]:
        if tensor["name"] not in values:
            raise _error(f"graph output '{tensor['name']}' is not produced by any node")
    for index, mutation in enumerate(ir.get("mutations") or []):
        _check_mutation(mutation, f"mutation {index}", inputs, weights, values)


def check_nodes(nodes: Any, operands: Collection[str] | None = None) -> None:
    """Check the fields of nodes. ``operands`` are the names that they may read; None allows all."""
    if not _is_a(nodes, Sequence):
        raise _wrong("nodes", nodes, "a list of nodes")
    for index, node in enumerate(nodes):
        where = f"node '{_field(node, 'name', str, f'node {index}')}'"
        _field(node, "op_type", str, where)
        _check_tensors(_field(node, "inputs", Sequence, where), "input", where)
        _check_tensors(_field(node, "outputs", Sequence, where), "output", where)
        _optional(node, "attrs", Mapping, where)
        for tensor in node["inputs"]:
            if operands is not None and tensor["name"] not in operands:
                raise _error(f"{where} reads '{tensor['name']}', which is neither an input, a weight nor a result")


def _check_mutation(mutation: Any, where: str, inputs: set[str], weights: set[str], values: set[str]) -> None:
    target, kind = _field(mutation, "target", str, where), _field(mutation, "kind", str, where)
    value = _field(mutation, "value", Mapping, where)
    _check_tensor(value, f"'value' of {where}")
    if target not in (inputs if kind == "input" else weights):
        raise _error(f"{where} writes '{target}', which is not {'an input' if kind == 'input' else 'a weight'}")
    if value["name"] not in values:
        raise _error(f"{where} stores '{value['name']}', which is not produced by any node")


def _check_tensors(tensors: Sequence[Any], what: str, owner: str = "") -> None:
    for index, tensor in enumerate(tensors):
        _check_tensor(tensor, f"{what} {index} of {owner}" if owner else f"{what} {index}")


def _check_tensor(tensor: Any, where: str) -> None:
    _field(tensor, "name", str, where)
    _field(tensor, "dtype", str, where)
    shape = _field(tensor, "shape", Sequence, where)
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape):
        raise _wrong(f"'shape' of {where}", shape, "a list of sizes")


def _field(record: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(record, Mapping):
        raise _wrong(where, record, _KINDS[Mapping])
    if key not in record:
        raise _error(f"'{key}' of {where} is missing", expected=_KINDS[kind])
    if not _is_a(record[key], kind):
        raise _wrong(f"'{key}' of {where}", record[key], _KINDS[kind])
    return record[key]


def _optional(record: Mapping[str, Any], key: str, kind: type, where: str) -> None:
    if record.get(key) is not None:
        _field(record, key, kind, where)


def _is_a(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and (kind is str or not isinstance(value, str | bytes))


def _wrong(where: str, value: Any, expected: str) -> InvalidTypeError:
    got = f"{repr(value)[:60]} ({type(value).__name__})"
    return InvalidTypeError(format_error("dag", f"malformed IR: {where} is wrong", got=got, expected=expected))


def _error(what: str, expected: str | None = None) -> InvalidValueError:
    return InvalidValueError(format_error("dag", f"malformed IR: {what}", expected=expected))
