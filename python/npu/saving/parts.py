"""The plan of a model that runs partly on the host, in a file: which nodes of the IR each part has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npu_base.errors import NPUError
from npu_compiler import CompiledProgram, Partition, PartitionPlan
from npu_compiler.partitioner import assembled_plan
from npu_runtime import Weights
from npu_runtime.host import as_numpy
from npu_runtime.ir_checks import check_ir

from npu.saving.container import refuse
from npu.saving.tensors import as_bytes, is_stored_as_bytes

__all__ = ["Parts", "check_weights", "host_weights", "last_node", "parts_of", "program_names", "read_parts"]

_FILES = ("aten.from_file",)
"""Operators that read or write files, which a saved model must not name."""


def last_node(nodes: Sequence[Mapping[str, Any]]) -> str:
    """The name of a part, also by the nodes of its IR: these may begin with nodes of other parts."""
    return str(nodes[-1]["name"])


@dataclass(frozen=True)
class Parts:
    """A plan, and the programs of its parts on the device by their last nodes."""

    plan: PartitionPlan
    programs: Mapping[str, CompiledProgram]

    def program_of(self, part: Mapping[str, Any]) -> CompiledProgram:
        return self.programs[last_node(part["nodes"])]

    def to_json(self, sections: Mapping[str, str]) -> bytes:
        """``sections`` names the program sections by last nodes."""
        numbers = {node["name"]: i for i, node in enumerate(self.plan.original_ir["nodes"])}
        parts = []
        for part in parts_of(self.plan):
            entry: dict[str, Any] = {"target": part.target, "nodes": [numbers[node["name"]] for node in part.nodes]}
            if part.target == "npu":
                entry["program"] = sections[last_node(part.nodes)]
            parts.append(entry)
        data = {"strategy": self.plan.strategy, "reasons": self.plan.reasons, "parts": parts}
        return json.dumps(data, separators=(",", ":")).encode()


def parts_of(plan: PartitionPlan) -> list[Partition]:
    return [step for step in plan.steps if isinstance(step, Partition)]


def program_names(data: Any) -> list[str]:
    """The program sections that a plan names, before it is checked."""
    parts = _list(data.get("parts")) if isinstance(data, dict) else []
    names = [part.get("program") for part in parts if isinstance(part, dict)]
    return list(dict.fromkeys(map(str, filter(None, names))))


def read_parts(
    data: Any, ir: dict[str, Any], programs: Mapping[str, CompiledProgram], file: str, section: str = "partition"
) -> Parts:
    """Checked: parts have each node of the IR once, in an order that runs, and their programs fit them."""
    groups, names = _read_groups(data, len(_list(ir.get("nodes"))), programs, file, section)
    try:
        plan = assembled_plan(ir, groups, data["strategy"], data["reasons"])
        check_ir(ir, parts_of(plan))
    except NPUError as error:
        refuse(file, f"the parts do not fit the IR: {error}", section=section)
    _check_order(plan, file, section)
    for node in (node for part in parts_of(plan) for node in part.nodes):
        if str(node["op_type"]).startswith(_FILES):
            refuse(file, "the IR has an operator that reads or writes files", section="ir", got=node["op_type"])
    for part, name in zip(parts_of(plan), names, strict=True):
        if name is not None:
            _check_program(plan, part, programs[name], file, name)
    pairs = zip(parts_of(plan), names, strict=True)
    return Parts(plan, {last_node(part.nodes): programs[name] for part, name in pairs if name is not None})


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _read_groups(
    data: Any, count: int, programs: Mapping[str, Any], file: str, section: str
) -> tuple[list[tuple[str, list[int]]], list[str | None]]:
    def bad(what: str, got: object, expected: str) -> None:
        refuse(file, what, section=section, got=f"{got!r:.60}", expected=expected)

    if not isinstance(data, dict) or not isinstance(data.get("parts"), list):
        bad("is not valid", data, "an object with a list of parts")
    if not isinstance(data.get("strategy"), str) or not isinstance(data.get("reasons"), dict):
        bad("'strategy' or 'reasons' is not valid", data.get("reasons"), "a name, and an object of texts")
    groups, names, taken = [], [], []
    for part in data["parts"]:
        if not isinstance(part, dict) or part.get("target") not in ("npu", "cpu"):
            bad("a part is not valid", part, "an object with a target, npu or cpu")
        nodes, name = part.get("nodes"), part.get("program")
        if not isinstance(nodes, list) or not nodes or not all(type(n) is int and 0 <= n < count for n in nodes):
            bad("a part has no valid nodes", nodes, f"numbers below {count}")
        on_device = part["target"] == "npu"
        if (on_device and not (isinstance(name, str) and name in programs)) or (not on_device and name is not None):
            bad("a part has a wrong program", name, "a program section for parts of the device, none for others")
        groups.append((part["target"], nodes))
        names.append(name)
        taken += nodes
    if sorted(taken) != list(range(count)):
        bad("the parts do not have each node once", sorted(taken)[:20], f"0 to {count - 1}")
    if sorted(name for name in names if name is not None) != sorted(programs):
        bad("the parts do not have each program once", names, ", ".join(programs))
    return groups, names


def _check_order(plan: PartitionPlan, file: str, section: str) -> None:
    results = {t["name"] for node in plan.original_ir["nodes"] for t in node["outputs"]}
    for part in parts_of(plan):
        late = [name for name in part.input_names if name in results]
        if late:
            what = f"a part reads '{late[0]}' before it is computed"
            refuse(file, what, section=section)
        results -= {t["name"] for node in part.nodes for t in node["outputs"]}


def _check_program(plan: PartitionPlan, part: Partition, program: CompiledProgram, file: str, section: str) -> None:
    """It takes what the part reads, and returns what others read."""
    ir = plan.original_ir
    weights = {w["name"]: w for w in ir["weights"]}
    mapping = {name: weights[fqn] for name, fqn in (ir.get("weight_name_mapping") or {}).items() if fqn in weights}
    metas = {**weights, **mapping, **{t["name"]: t for t in ir["graph_inputs"]}}
    metas |= {t["name"]: t for node in ir["nodes"] for t in (*node["inputs"], *node["outputs"])}
    returned = {spec.name for spec in program.output_specs}
    lacking = [name for name in part.output_names if name not in returned]
    strange = [spec.name for spec in program.input_specs if spec.name not in part.input_names]
    for spec in (*program.input_specs, *program.output_specs):
        meta = metas.get(spec.name)
        if meta is None or list(meta["shape"]) != list(spec.shape) or meta["dtype"] != spec.dtype:
            strange.append(spec.name)
    if lacking or strange:
        what = "the program does not fit its part of the plan"
        refuse(file, what, section=section, got=f"'{(lacking + strange)[0]}' with another name, shape or dtype")


def check_weights(plan: PartitionPlan, stored: Weights, file: str, section: str) -> None:
    """Those that the host's parts read, and buffers, are there with the shapes and dtypes of the IR. Those of programs
    are checked with each program, which may read fewer than its part does."""
    ir = plan.original_ir
    mapping, constants = ir.get("weight_name_mapping") or {}, ir.get("constants") or {}
    metas = {w["name"]: w for w in ir["weights"]}
    used = {mapping.get(n, n) for part in parts_of(plan) if part.target != "npu" for n in part.input_names}
    used |= {mapping.get(t["name"], t["name"]) for t in ir["graph_outputs"]}
    used |= {m["target"] for m in ir.get("mutations") or () if m["kind"] == "buffer"}
    for name in sorted(used & metas.keys() - constants.keys()):
        meta, tensor = metas[name], stored.get(name)
        expected = f"{meta['dtype']}{list(meta['shape'])}"
        if tensor is not None and is_stored_as_bytes(meta["dtype"]):
            tensor = as_bytes(as_numpy(tensor), meta["shape"], meta["dtype"])
        got = "no such name" if tensor is None else f"{tensor.dtype}{list(tensor.shape)}"
        if got != expected:
            refuse(file, f"the weights have another '{name}'", section=section, got=got, expected=expected)


def host_weights(ir: Mapping[str, Any], stored: Weights) -> dict[str, Any]:
    """Those that are stored as bytes, with their shapes and dtypes."""
    metas = [w for w in ir["weights"] if is_stored_as_bytes(w["dtype"]) and w["name"] in stored]
    return {w["name"]: as_bytes(as_numpy(stored[w["name"]]), w["shape"], w["dtype"]) for w in metas}
