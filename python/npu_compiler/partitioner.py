"""Splits a graph into programs and parts for the host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from npu_base.argument_types import IRSource
from npu_base.errors import InvalidTypeError, InvalidValueError

from .errors import CompileError, ExtensionError, IRError, described
from .lowering import GETITEM
from .opset import DTYPES
from .partition_costs import bytes_of, crossing_seconds, part_seconds
from .partition_order import CHEAPER, Arrangement
from .partition_report import PartReport, PlanReport
from .reader import check_fixed, check_updates, load_ir, malformed
from .refusals import Refusal, located, refusals
from .registry import full_name
from .support import check_outline, explain_ir, explain_support, is_op_supported, node_reads, results_of

__all__ = ["Partition", "PartitionPlan", "TransferOp", "partition", "partition_ir"]

Supported = Callable[[str, "dict[str, Any] | None"], bool]
STRATEGIES = ("sequential", "cost")


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
    strategy: str = "sequential"
    reasons: dict[str, str] = field(default_factory=dict)  # by node: why it is on the host

    def explain(self) -> PlanReport:
        """Reports each part: its target, operators, why nodes are on the host, what crosses, and a rough time."""
        report = PlanReport(str(self.original_ir.get("model_name") or ""), self.strategy)
        parts = [step for step in self.steps if isinstance(step, Partition)]
        producers = {t["name"]: (part.target, t) for part in parts for node in part.nodes for t in node["outputs"]}
        for node in (node for part in parts for node in part.nodes):
            with malformed(f"node '{node['name']}'"):
                sizes = [bytes_of(meta) for meta in (*node["inputs"], *node["outputs"])]
                if min(sizes, default=0) < 0:
                    raise ValueError("one of its tensors has a negative extent")
        there: set[tuple[str, str]] = set()
        for part in parts:
            entering = [n for n in part.input_names if producers.get(n, (part.target,))[0] != part.target]
            entering = [n for n in entering if (n, part.target) not in there]
            there |= {(name, part.target) for name in entering}
            others = {n for other in parts if other.target != part.target for n in other.input_names}
            leaving = [name for name in part.output_names if name in others]
            metas = [producers[name][1] for name in entering]
            report.parts.append(
                PartReport(
                    part.partition_id,
                    part.target,
                    dict(Counter(node["op_type"] for node in part.nodes)),
                    self._reasons_of(part),
                    entering,
                    sum(map(bytes_of, metas)),
                    leaving,
                    sum(bytes_of(producers[name][1]) for name in leaving),
                    part_seconds(part.target, part.nodes) + crossing_seconds(metas),
                )
            )
        return report

    def _reasons_of(self, part: Partition) -> list[Refusal]:
        if part.target == "npu":
            return []
        return refusals((node, self.reasons.get(node["name"], "not supported")) for node in part.nodes)


def partition(
    ir_dict: IRSource,
    is_supported_fn: Supported | None = is_op_supported,
    strategy: str = "sequential",
    *,
    strict: bool = False,
) -> PartitionPlan:
    """Splits an IR, given as its dict, its path or the object, into parts. The target of nodes that compile with their
    shapes and dtypes is "npu", and that of others "cpu". If ``is_supported_fn`` returns False for a node, it stays on
    the host too.

    The strategy "sequential" keeps the order of the nodes: consecutive nodes of one target form a part. "cost" reorders
    them for as few borders as the graph allows, and keeps cheap nodes between host nodes on the host. ``strict`` raises
    an error that lists all nodes that are not supported, instead of using the host.

    Raises:
        IRError: the IR is malformed.
        CompileError: with ``strict``, a node is not supported.
        InvalidValueError: there is no such strategy.
    """
    if not isinstance(ir_dict, dict):
        ir_dict = dict(load_ir(ir_dict))
    check_fixed(ir_dict)
    if strategy not in STRATEGIES:
        raise InvalidValueError(
            f"[compiler] the partition strategy is unknown; got {strategy!r}; expected 'sequential' or 'cost'"
        )
    if is_supported_fn is not None and not callable(is_supported_fn):
        got = type(is_supported_fn).__name__
        raise InvalidTypeError(
            f"[compiler] is_supported_fn must be callable; got {got}; expected a function of op_type and attrs"
        )
    if not isinstance(strict, bool):
        raise InvalidTypeError(f"[compiler] strict must be a bool; got {strict!r:.60}; expected True or False")
    check_outline(ir_dict)
    with malformed("the mutations"):
        updates = [(m["target"], m["kind"]) for m in ir_dict.get("mutations") or ()]
    check_updates(updates)
    nodes = ir_dict["nodes"]
    refused = _refused(ir_dict, is_supported_fn or is_op_supported)
    reasons = {node["name"]: reason for node, reason in zip(nodes, refused, strict=True) if reason}
    if strict and reasons:
        raise CompileError(_all_refused(ir_dict, refused))
    targets = ["cpu" if reason else "npu" for reason in refused]
    if strategy == "sequential":
        return PartitionPlan(_steps(ir_dict, _consecutive(nodes, targets)), ir_dict, strategy, reasons)
    with malformed("the graph"):
        arrangement = Arrangement(nodes, targets)
        if "cpu" in targets and "npu" in targets:
            arrangement.improve()
    for i, target in enumerate(arrangement.targets):
        if target == "cpu" and not refused[i]:
            reasons[nodes[i]["name"]] = CHEAPER if i in arrangement.moved else "it reads a result of a node on the host"
    groups = [(target, [nodes[i] for i in group]) for target, group in arrangement.groups]
    return PartitionPlan(_steps(ir_dict, groups, only_crossing=True), ir_dict, strategy, reasons)


Groups = list[tuple[str, list[dict[str, Any]]]]


def assembled_plan(
    ir_dict: dict[str, Any], parts: Sequence[tuple[str, Sequence[int]]], strategy: str, reasons: Mapping[str, str]
) -> PartitionPlan:
    """A plan that was written down: parts are targets and numbers of nodes."""
    check_outline(ir_dict)
    nodes = ir_dict["nodes"]
    with malformed("the graph"):
        groups = [(target, [nodes[i] for i in numbers]) for target, numbers in parts]
        return PartitionPlan(_steps(ir_dict, groups, strategy != "sequential"), ir_dict, strategy, dict(reasons))


def _consecutive(nodes: Sequence[dict[str, Any]], targets: Sequence[str]) -> Groups:
    groups: Groups = []
    for node, target in zip(nodes, targets, strict=True):
        if not groups or groups[-1][0] != target:
            groups.append((target, []))
        groups[-1][1].append(node)
    return groups


def _steps(ir_dict: dict[str, Any], groups: Groups, only_crossing: bool = False) -> list[Partition | TransferOp]:
    """A transfer lists what a part reads from earlier ones, or only what is not on its side yet."""
    home = {output["name"]: i for i, (_, group) in enumerate(groups) for node in group for output in node["outputs"]}
    numbers = _host_numbers(groups)
    alone = [[*_makers(numbers, group), *group] for _, group in groups]
    reads = [_names_read(nodes) - _names_made(nodes) for nodes in alone]
    wanted = results_of(ir_dict) | {name for names in reads for name in names}
    steps: list[Partition | TransferOp] = []
    there: set[tuple[str, str]] = set()
    for i, (target, group) in enumerate(groups):
        inputs = sorted(reads[i])
        crossing = [name for name in inputs if name in home]
        if only_crossing:
            crossing = [n for n in crossing if groups[home[n]][0] != target and (n, target) not in there]
            there |= {(name, target) for name in crossing}
        if i and crossing:
            steps.append(TransferOp(crossing, "to_npu" if target == "npu" else "to_cpu"))
        steps.append(Partition(i, target, group, inputs, sorted(_names_made(group) & wanted)))
    return steps


def _names_read(nodes: Sequence[dict[str, Any]]) -> set[str]:
    return {t["name"] for node in nodes for t in node_reads(node)}


def _names_made(nodes: Sequence[dict[str, Any]]) -> set[str]:
    return {t["name"] for node in nodes for t in node["outputs"]}


def _host_numbers(groups: Groups) -> dict[str, dict[str, Any]]:
    """The nodes of the device that make tensors of dtypes it does not have, by these: single numbers, as constants."""
    on_device = [node for target, group in groups if target == "npu" for node in group]
    return {t["name"]: node for node in on_device for t in node["outputs"] if t.get("dtype", "float32") not in DTYPES}


def _makers(numbers: Mapping[str, dict[str, Any]], group: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The nodes of other parts that make such numbers for this one. They cannot cross, so each part makes its own."""
    reading, own = list(group), {node["name"] for node in group}
    needed: set[str] = set()
    while reading:
        for t in node_reads(reading.pop()):
            maker = numbers.get(t["name"])
            if maker is not None and maker["name"] not in needed | own:
                needed.add(maker["name"])
                reading.append(maker)
    return list({node["name"]: node for node in numbers.values() if node["name"] in needed}.values())


def _refused(ir_dict: dict[str, Any], supported: Supported) -> list[str | None]:
    """For each node, why it does not run on the device, or None."""
    nodes, is_consistent = ir_dict["nodes"], True
    try:
        reasons = [reason for _, reason in explain_ir(ir_dict)]
    except IRError:  # an inconsistent graph is judged node by node
        reasons, is_consistent = [explain_support(node) for node in nodes], False
    if supported is not is_op_supported:
        wanted = [_ask(supported, node) for node in nodes]
        reasons = [
            reason or (None if want else "is_supported_fn returned False for it")
            for want, reason in zip(wanted, reasons, strict=True)
        ]
    if is_consistent:
        _keep_off_borders(nodes, reasons)
    return reasons


def _keep_off_borders(nodes: Sequence[Mapping[str, Any]], reasons: list[str | None]) -> None:
    """A program may have single numbers of dtypes that devices lack, such as float64, as constants inside; a node that
    makes or reads one together with the host is the host's too."""
    made_by = {t["name"]: i for i, node in enumerate(nodes) for t in node["outputs"] if t["dtype"] not in DTYPES}
    borders = [
        (made_by[t["name"]], i, t["dtype"])
        for i, node in enumerate(nodes) for t in node_reads(node) if t["name"] in made_by
    ]  # fmt: skip
    changed = bool(borders)
    while changed:
        changed = False
        for maker, reader, dtype in borders:
            if (reasons[maker] is None) != (reasons[reader] is None):
                at = maker if reasons[maker] is None else reader
                reasons[at], changed = f"dtype {dtype}", True


def _ask(supported: Supported, node: Mapping[str, Any]) -> bool:
    where = f"node {located(node['name'], node.get('module_path'), node.get('source'))}, {node['op_type']}"
    try:
        answer = supported(node["op_type"], _copied(node.get("attrs")))
    except Exception as error:
        raise ExtensionError(
            f"[compiler] is_supported_fn {full_name(supported)} failed at {where}: {described(error)}"
        ) from error
    if not isinstance(answer, bool | np.bool_):
        raise InvalidTypeError(
            f"[compiler] is_supported_fn {full_name(supported)} must return a bool; got {answer!r:.60}, a "
            f"{type(answer).__name__}, at {where}; expected True or False"
        )
    return bool(answer)


def _copied(attrs: Any) -> Any:
    """So that a predicate cannot change the caller's IR. Tensors are not copied."""
    if isinstance(attrs, Mapping):
        return {key: _copied(value) for key, value in attrs.items()}
    return [_copied(value) for value in attrs] if isinstance(attrs, list) else attrs


def _all_refused(ir_dict: dict[str, Any], refused: Sequence[str | None]) -> str:
    count = sum(reason is not None for reason in refused)
    lines = [f"[compiler] {count} of {len(refused)} nodes of '{ir_dict.get('model_name', '')}' are not supported:"]
    lines += [f"  - {refusal}" for refusal in refusals(zip(ir_dict["nodes"], refused, strict=True))]
    return "\n".join([*lines, "They can run on the host, which strict=True (or fallback='error') forbids"])


def partition_ir(plan: PartitionPlan, part: Partition) -> dict[str, Any]:
    """The IR of one part. What it reads from other parts becomes an input of its graph, except numbers of dtypes that
    devices do not have: their nodes are in the IR of each part that reads them, before its own.

    Raises:
        InvalidTypeError: these are no plan and no part of one.
    """
    if not isinstance(plan, PartitionPlan) or not isinstance(part, Partition):
        got = f"{type(plan).__name__} and {type(part).__name__}"
        raise InvalidTypeError(
            f"[compiler] expected a plan and one of its parts; got {got}; try the result of partition(...)"
        )
    with malformed("the graph"):
        return _alone(plan, part)


def _alone(plan: PartitionPlan, part: Partition) -> dict[str, Any]:
    ir: Mapping[str, Any] = plan.original_ir
    mapping = ir.get("weight_name_mapping") or {}
    weights = {w["name"]: w for w in ir["weights"]}
    parts = [(step.target, step.nodes) for step in plan.steps if isinstance(step, Partition)]
    own_nodes = [*_makers(_host_numbers(parts), part.nodes), *part.nodes]
    metas = {t["name"]: t for node in own_nodes for t in (*node["inputs"], *node["outputs"])}
    own = _names_made(own_nodes)
    given = {t["name"] for t in ir["graph_inputs"]} | {o["name"] for n in ir["nodes"] for o in n["outputs"]}
    inputs = [n for n in part.input_names if n in given]
    used = {mapping.get(n, n) for n in part.input_names if n not in given}
    nodes = [
        {**node, "inputs": [t if t["name"] in own else _bare(t) for t in node["inputs"]]}
        for node in (_taking_one(node, own) for node in own_nodes)
    ]
    return {
        **{k: ir[k] for k in ("model_name", "pytorch_version", "schema_version", "subgraphs", "ties") if k in ir},
        "graph_inputs": [_bare(metas[n]) for n in inputs],
        "graph_outputs": [_bare(metas[n]) for n in part.output_names],
        "weights": [w for name, w in weights.items() if name in used],
        "weight_name_mapping": {k: v for k, v in mapping.items() if v in used},
        "constants": {k: v for k, v in (ir.get("constants") or {}).items() if k in used},
        "nodes": nodes,
    }


def _taking_one(node: dict[str, Any], own: set[str]) -> dict[str, Any]:
    """``getitem`` lists all results of a node. If the node is in another part, only the selected one is available."""
    if node["op_type"] != GETITEM or all(t["name"] in own for t in node["inputs"]):
        return node
    return {**node, "inputs": node_reads(node), "attrs": {**node["attrs"], "index": 0}}


def _bare(meta: dict[str, Any]) -> dict[str, Any]:
    return {k: meta[k] for k in ("name", "shape", "dtype")}
