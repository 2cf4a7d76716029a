"""What a partitioned model keeps from one run to the next: buffers that it writes, and caches that nobody passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from npu_runtime._core import Executor

__all__ = ["Held", "find_held", "updated_in_place", "updated_values"]


@dataclass(frozen=True)
class Held:
    name: str
    """Of a graph input, or a buffer's in the state dict"""
    places: tuple[str, ...]
    """Its names in the graph"""
    result: str
    """What it is after a run"""
    in_place: bool
    """Where nobody needs the old contents"""
    is_input: bool


UPDATES = (
    "index_copy", "index_put", "_unsafe_index_put", "index_add", "index_fill", "index_reduce", "put", "scatter",
    "scatter_add", "scatter_reduce", "slice_scatter", "select_scatter",
)  # fmt: skip
"""Operators whose result is their first input but for some places."""


def updated_values(ir: Mapping[str, Any]) -> dict[str, str]:
    """By value that is an update of another one, through any number of steps: the first of them."""
    edges = {
        node["outputs"][0]["name"]: node["inputs"][0]["name"]
        for node in ir["nodes"]
        if node["inputs"] and len(node["outputs"]) == 1 and node["op_type"].split(".")[1:2] in [[op] for op in UPDATES]
    }
    return _to_the_first(edges)


def updated_in_place(executors: Mapping[int, Any], hosts: Mapping[int, Any]) -> dict[str, str]:
    """Of those, the ones that parts make in the memory of the first, if nobody needs that any more."""
    edges: dict[str, str] = {}
    for executor in executors.values():
        if isinstance(executor, Executor):
            ins = executor.program.inputs
            edges |= {o.name: ins[o.alias].name for o in executor.program.outputs if o.alias >= 0}
    for host in hosts.values():
        edges |= host.updates
    return _to_the_first(edges)


def _to_the_first(edges: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, source in edges.items():
        while source in edges:
            source = edges[source]
        found[name] = source
    return found


def find_held(ir: Mapping[str, Any], sources: Mapping[str, str], in_place: Mapping[str, str]) -> list[Held]:
    """Buffers first; then inputs that the model writes, or of which exactly one output is an update."""
    mapping: dict[str, str] = ir.get("weight_name_mapping") or {}
    mutations = ir.get("mutations") or []
    held = []
    for mutation in mutations:
        if mutation["kind"] == "buffer":
            name, result = mutation["target"], mutation["value"]["name"]
            places = tuple(n for n, fqn in mapping.items() if fqn == name)
            held.append(Held(name, places, result, len(places) == 1 and in_place.get(result) == places[0], False))
    written = {m["target"]: m["value"]["name"] for m in mutations if m["kind"] == "input"}
    returned = dict.fromkeys(t["name"] for t in ir["graph_outputs"])
    for meta in ir["graph_inputs"]:
        name = meta["name"]
        results = [written[name]] if name in written else [r for r in returned if sources.get(r) == name]
        if len(results) == 1:
            held.append(Held(name, (name,), results[0], in_place.get(results[0]) == name, True))
    return held
