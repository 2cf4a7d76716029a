"""The state of a partitioned model: buffers that it writes, and caches that the caller does not pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from npu_runtime._core import Executor

__all__ = ["StateTensor", "find_state", "updated_in_place", "updated_values"]


@dataclass(frozen=True)
class StateTensor:
    name: str
    """Name of the graph input, or state-dict name of the buffer."""
    graph_names: tuple[str, ...]
    """Names by which nodes refer to it."""
    result: str
    """Name of the value that it has after a run."""
    in_place: bool
    """Whether runs update it in place, because nothing needs its old contents."""
    is_input: bool


UPDATES = (
    "index_copy", "index_put", "_unsafe_index_put", "index_add", "index_fill", "index_reduce", "put", "scatter",
    "scatter_add", "scatter_reduce", "slice_scatter", "select_scatter",
)  # fmt: skip
"""Operators whose result is their first input with some elements replaced."""


def updated_values(ir: Mapping[str, Any]) -> dict[str, str]:
    """For each value made by updating another one, in any number of steps: the value that it started from."""
    edges = {
        node["outputs"][0]["name"]: node["inputs"][0]["name"]
        for node in ir["nodes"]
        if node["inputs"] and len(node["outputs"]) == 1 and node["op_type"].split(".")[1:2] in [[op] for op in UPDATES]
    }
    return _follow(edges)


def updated_in_place(executors: Mapping[int, Any], hosts: Mapping[int, Any]) -> dict[str, str]:
    """The same for updates that parts do in the memory of the first value, because nothing else needs it."""
    edges: dict[str, str] = {}
    for executor in executors.values():
        if isinstance(executor, Executor):
            ins = executor.program.inputs
            edges |= {o.name: ins[o.alias].name for o in executor.program.outputs if o.alias >= 0}
    for host in hosts.values():
        edges |= host.updates
    return _follow(edges)


def _follow(edges: Mapping[str, str]) -> dict[str, str]:
    """The end of the chain of edges that begins at each name."""
    ends = {}
    for name, source in edges.items():
        while source in edges:
            source = edges[source]
        ends[name] = source
    return ends


def find_state(ir: Mapping[str, Any], sources: Mapping[str, str], in_place: Mapping[str, str]) -> list[StateTensor]:
    """Buffers that the model writes, then inputs that it writes or that exactly one output updates."""
    mapping: dict[str, str] = ir.get("weight_name_mapping") or {}
    mutations = ir.get("mutations") or []
    state = []
    for mutation in mutations:
        if mutation["kind"] == "buffer":
            name, result = mutation["target"], mutation["value"]["name"]
            names = tuple(n for n, fqn in mapping.items() if fqn == name)
            is_in_place = len(names) == 1 and in_place.get(result) == names[0]
            state.append(StateTensor(name, names, result, is_in_place, False))
    written = {m["target"]: m["value"]["name"] for m in mutations if m["kind"] == "input"}
    returned = dict.fromkeys(t["name"] for t in ir["graph_outputs"])
    for meta in ir["graph_inputs"]:
        name = meta["name"]
        results = [written[name]] if name in written else [r for r in returned if sources.get(r) == name]
        if len(results) == 1:
            state.append(StateTensor(name, (name,), results[0], in_place.get(results[0]) == name, True))
    return state
