"""A model as a graph for Google's Model Explorer: its graph JSON, and files of node data."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from npu_base.module_paths import levels, split_call
from npu_compiler.partition_report import short_name

from npu.pictures.measured import HOST, Measured, Step

__all__ = ["graph_json", "namespace_of", "node_data"]

_COLORS = {HOST: "#f28b82"}
_DEVICE_COLOR = "#a8dab5"
_GRADIENT = [{"stop": 0, "bgColor": "#ffffff"}, {"stop": 1, "bgColor": "#f4511e"}]
_LONGEST = 200  # characters of an attribute's value


def namespace_of(path: str) -> str:
    """The modules around a node, outermost first. The call of a module is part of its name: ``cell@1``."""
    module, _ = split_call(path)
    names, before = [], ""
    for level in levels(module):
        names.append(level.removeprefix(f"{before}."))
        before = level
    if names and path != module:
        names[-1] += path.removeprefix(module)
    return "/".join(names)


class _Makers:
    """What makes each tensor: a node or an input of the graph, and the number of its result."""

    def __init__(self, ir: Mapping[str, Any]) -> None:
        self._nodes = {node["name"] for node in ir["nodes"]}
        self._by_name = {t["name"]: (node["name"], i) for node in ir["nodes"] for i, t in enumerate(node["outputs"])}
        self._by_name |= {t["name"]: (_input_id(t["name"]), 0) for t in ir["graph_inputs"]}

    def of(self, t: Mapping[str, Any]) -> tuple[str, int] | None:
        """None for a weight."""
        producer = t.get("producer_node")
        if producer in self._nodes:
            return str(producer), t.get("producer_output_idx", 0)
        return self._by_name.get(t["name"])

    def edges(self, tensors: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
        made = [(i, maker) for i, t in enumerate(tensors) if (maker := self.of(t)) is not None]
        return [
            {"sourceNodeId": maker, "sourceNodeOutputId": str(output), "targetNodeInputId": str(i)}
            for i, (maker, output) in made
        ]


def graph_json(measured: Measured) -> str:
    """A collection of one graph. Nodes are those of the IR, and modules are layers."""
    ir = measured.ir
    step_of = {name: step for step in measured.steps for name in step.nodes}
    makers = _Makers(ir)
    nodes = [_value(_input_id(t["name"]), t, "Inputs", []) for t in ir["graph_inputs"]]
    nodes += [_node(node, step_of.get(node["name"]), measured, makers) for node in ir["nodes"]]
    outputs = enumerate(ir["graph_outputs"])
    nodes += [_value(f"output {i}", t, "Outputs", makers.edges([t])) for i, t in outputs]
    graph = {"id": measured.model, "nodes": nodes, "groupNodeAttributes": _of_modules(measured)}
    return json.dumps({"label": measured.model, "graphs": [graph]}, indent=1)


def node_data(measured: Measured, errors: Mapping[str, float] | None = None) -> dict[str, str]:
    """Files of node data by what they show. What a step takes is that of its last node, into which others are fused."""
    time: dict[str, float] = {}
    moved: dict[str, float] = {}
    devices: dict[str, str] = {}
    for step in measured.steps:
        devices |= dict.fromkeys(step.nodes, step.device)
        if step.nodes:
            time[step.nodes[-1]], moved[step.nodes[-1]] = step.time, step.bytes
    colored = {n: {"value": d, "bgColor": _COLORS.get(d, _DEVICE_COLOR)} for n, d in devices.items()}
    data: dict[str, dict[str, Any]] = {
        "device": {"results": colored},
        "time": {"results": _values(time), "gradient": _GRADIENT},
        "bytes": {"results": _values(moved), "gradient": _GRADIENT},
    }
    if errors is not None:
        data["error"] = {"results": _values(errors), "gradient": _GRADIENT}
    titles = {"device": "Device", "time": "Time (us)", "bytes": "Bytes", "error": "Relative error"}
    return {
        what: json.dumps({measured.model: {"name": titles[what], **content}}, indent=1)
        for what, content in data.items()
    }


def _values(results: Mapping[str, float]) -> dict[str, dict[str, float]]:
    return {name: {"value": float(f"{value:.4g}")} for name, value in results.items()}


def _node(node: Mapping[str, Any], step: Step | None, measured: Measured, makers: _Makers) -> dict[str, Any]:
    weights = measured.ir.get("weight_name_mapping") or {}
    attrs = {
        "operator": node["op_type"],
        "module": node.get("module_path"),
        "line": node.get("source"),
        **_of_step(node["name"], step),
        "why on the host": measured.reasons.get(node["name"]),
        **{
            f"weight {i}": f"{weights.get(t['name'], t['name'])} {_spec(t)}"
            for i, t in enumerate(node["inputs"])
            if makers.of(t) is None
        },
        **{name: json.dumps(value) for name, value in (node.get("attrs") or {}).items()},
    }
    return {
        "id": node["name"],
        "label": short_name(node["op_type"]).removesuffix(".default"),
        "namespace": namespace_of(node.get("module_path") or ""),
        "attrs": _pairs(attrs),
        "incomingEdges": makers.edges(node["inputs"]),
        "outputsMetadata": [_metadata(i, t) for i, t in enumerate(node["outputs"])],
    }


def _of_step(name: str, step: Step | None) -> dict[str, Any]:
    if step is None:
        return {"kernel": "none: a view, or computed once from weights"}
    attrs: dict[str, Any] = {"device": step.device, "kernel": step.kernel, "step": step.name}
    if name == step.nodes[-1]:
        return {**attrs, "time": f"{step.time:.4g} us", "bytes": f"{step.bytes:,.0f}", "flops": f"{step.flops:,.0f}"}
    return {**attrs, "time": f"that of {step.nodes[-1]}"}


def _input_id(name: str) -> str:
    return f"input {name}"  # with a space, which no node's name has


def _value(identifier: str, t: Mapping[str, Any], group: str, edges: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "id": identifier,
        "label": t["name"],
        "namespace": group,
        "attrs": _pairs({"tensor": _spec(t)}),
        "incomingEdges": edges,
        "outputsMetadata": [] if edges else [_metadata(0, t)],
    }


def _metadata(index: int, t: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": str(index), "attrs": _pairs({"tensor_name": t["name"], "tensor_shape": _spec(t)})}


def _spec(t: Mapping[str, Any]) -> str:
    return f"{t['dtype']}[{', '.join(map(str, t['shape']))}]"


def _pairs(attrs: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"key": key, "value": f"{value!s:.{_LONGEST}}"} for key, value in attrs.items() if value is not None]


def _of_modules(measured: Measured) -> dict[str, dict[str, str]]:
    """What is shown of a layer, and, without a namespace, of the graph."""
    time: dict[str, float] = defaultdict(float)
    moved: dict[str, float] = defaultdict(float)
    for step in measured.steps:
        names = namespace_of(measured.module(step)).split("/")
        for depth in range(len(names)):
            time["/".join(names[: depth + 1])] += step.time
            moved["/".join(names[: depth + 1])] += step.bytes
    groups = {n: {"time": f"{time[n]:.4g} us", "bytes": f"{moved[n]:,.0f}"} for n in time if n}
    whole = {
        "device": measured.device,
        "runs": str(measured.runs),
        "time of a run": f"{measured.wall_ms:.4g} ms",
        "bytes": f"{measured.bytes:,.0f}",
        "bytes without copies": f"{measured.least_bytes:,.0f}",
    }
    return {**groups, "": whole}
