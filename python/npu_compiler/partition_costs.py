"""Rough costs of the parts of a graph, to decide where a few cheap nodes run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .flops import flops_of
from .lowering import GETITEM

__all__ = ["bytes_of", "crossing_seconds", "part_seconds"]

# Per second, and seconds. Only the ratios matter: a device is several times faster than the host, operators on the host
# and programs have fixed costs, and tensors that cross are copied.
_BYTES = {"npu": 100e9, "cpu": 20e9}
_FLOPS = {"npu": 2e12, "cpu": 1e11}
_EACH_NODE = {"npu": 2e-6, "cpu": 5e-6}
_EACH_PART = {"npu": 30e-6, "cpu": 10e-6}
_CROSSING, _CROSSING_BYTES = 10e-6, 10e9

_WIDTHS = {"complex128": 16, "complex64": 8, "bool": 1, "uint8": 1, "int8": 1}
_FREE = ("view", "reshape", "transpose", "permute", "unsqueeze", "squeeze", "expand", "slice", "select", "alias", "t")


def bytes_of(meta: Mapping[str, Any]) -> int:
    dtype = str(meta["dtype"])
    digits = "".join(c for c in dtype if c.isdigit())
    width = _WIDTHS.get(dtype) or (int(digits) // 8 if digits else 4)
    return width * _elements(meta)


def _elements(meta: Mapping[str, Any]) -> int:
    return math.prod(int(n) for n in meta["shape"])


def part_seconds(target: str, nodes: Iterable[Mapping[str, Any]]) -> float:
    return _EACH_PART[target] + sum(node_seconds(target, node) for node in nodes)


def node_seconds(target: str, node: Mapping[str, Any]) -> float:
    base = _base(node)
    if node["op_type"] == GETITEM:
        return 0.0
    if base in _FREE:
        return 0.0 if target == "npu" else _EACH_NODE[target]
    moved = sum(bytes_of(t) for t in (*node["inputs"], *node["outputs"]))
    return _EACH_NODE[target] + max(moved / _BYTES[target], flops_of(node) / _FLOPS[target])


def crossing_seconds(metas: Sequence[Mapping[str, Any]]) -> float:
    return _CROSSING * bool(metas) + sum(bytes_of(meta) for meta in metas) / _CROSSING_BYTES


def _base(node: Mapping[str, Any]) -> str:
    parts = str(node["op_type"]).split(".")
    return parts[1] if len(parts) > 1 else parts[0]
