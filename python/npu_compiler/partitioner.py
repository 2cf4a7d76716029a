"""Splitting a graph between programs and the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import IRError
from .reader import load_ir, malformed
from .support import check_outline, explain_ir, explain_support, is_op_supported, node_reads, results_of

__all__ = ["Partition", "PartitionPlan", "TransferOp", "partition", "partition_ir"]


@dataclass
class Partition:
    partition_id: int
    target: str
    nodes: list[dict[str, Any]]
    input_names: list[str]
    output_names: list[str]


@dataclass
class TransferOp:
    tensor_names: list[str]
    direction: str


@dataclass
class PartitionPlan:
    steps: list[Partition | TransferOp]
    original_ir: dict[str, Any]


def partition(
    ir_dict: Any,
    is_supported_fn: Callable[[str, dict[str, Any] | None], bool] | None = is_op_supported,
    strategy: str = "sequential",
) -> PartitionPlan:
    """Consecutive nodes of one kind, "npu" where ``is_supported_fn`` says so, else "cpu". Our own function is asked
    the full question, with shapes and dtypes. The IR is given as its dict, its path or the object."""
    if not isinstance(ir_dict, dict):
        ir_dict = dict(load_ir(ir_dict))
    if strategy != "sequential":
        raise ValueError(f"[compiler] partition strategy {strategy!r}; expected 'sequential', the only one so far")
    check_outline(ir_dict)
    nodes = ir_dict["nodes"]
    targets = _targets(ir_dict, is_supported_fn or is_op_supported)
    groups: list[tuple[str, list[dict[str, Any]]]] = []
    for node, target in zip(nodes, targets, strict=True):
        if not groups or groups[-1][0] != target:
            groups.append((target, []))
        groups[-1][1].append(node)
    home = {output["name"]: i for i, (_, group) in enumerate(groups) for node in group for output in node["outputs"]}
    wanted = results_of(ir_dict)
    for i, (_, group) in enumerate(groups):
        wanted |= {t["name"] for node in group for t in node_reads(node) if home.get(t["name"], i) != i}
    steps: list[Partition | TransferOp] = []
    for i, (target, group) in enumerate(groups):
        own = {output["name"] for node in group for output in node["outputs"]}
        inputs = sorted({t["name"] for node in group for t in node_reads(node)} - own)
        crossing = [name for name in inputs if name in home]
        if i and crossing:
            steps.append(TransferOp(crossing, "to_npu" if target == "npu" else "to_cpu"))
        steps.append(Partition(i, target, group, inputs, sorted(own & wanted)))
    return PartitionPlan(steps, ir_dict)


def _targets(ir_dict: dict[str, Any], supported: Callable[[str, dict[str, Any] | None], bool]) -> list[str]:
    nodes = ir_dict["nodes"]
    if supported is not is_op_supported:
        return ["npu" if supported(n["op_type"], n.get("attrs")) else "cpu" for n in nodes]
    try:
        reasons = [reason for _, reason in explain_ir(ir_dict)]
    except IRError:  # a graph that does not hang together can be cut too, node by node
        reasons = [explain_support(node) for node in nodes]
    return ["cpu" if reason else "npu" for reason in reasons]


def partition_ir(plan: PartitionPlan, part: Partition) -> dict[str, Any]:
    """The IR of one partition alone: what it reads from others is an input of its graph."""
    with malformed("the graph"):
        return _alone(plan, part)


def _alone(plan: PartitionPlan, part: Partition) -> dict[str, Any]:
    ir: Mapping[str, Any] = plan.original_ir
    mapping = ir.get("weight_name_mapping") or {}
    weights = {w["name"]: w for w in ir["weights"]}
    metas = {t["name"]: t for node in part.nodes for t in (*node["inputs"], *node["outputs"])}
    own = {output["name"] for node in part.nodes for output in node["outputs"]}
    given = {t["name"] for t in ir["graph_inputs"]} | {o["name"] for n in ir["nodes"] for o in n["outputs"]}
    inputs = [n for n in part.input_names if n in given]
    used = {mapping.get(n, n) for n in part.input_names if n not in given}
    nodes = [{**node, "inputs": [t if t["name"] in own else _bare(t) for t in node["inputs"]]} for node in part.nodes]
    return {
        **{k: ir[k] for k in ("model_name", "pytorch_version", "schema_version", "subgraphs", "ties") if k in ir},
        "graph_inputs": [_bare(metas[n]) for n in inputs],
        "graph_outputs": [_bare(metas[n]) for n in part.output_names],
        "weights": [w for name, w in weights.items() if name in used],
        "weight_name_mapping": {k: v for k, v in mapping.items() if v in used},
        "constants": {k: v for k, v in (ir.get("constants") or {}).items() if k in used},
        "nodes": nodes,
    }


def _bare(meta: dict[str, Any]) -> dict[str, Any]:
    return {k: meta[k] for k in ("name", "shape", "dtype")}
