"""What a profile says of a model, step by step, with the nodes and modules that each step computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from npu_compiler import PartitionPlan
from npu_runtime.parts_profiler import PartsProfiler

from npu.saving.contents import Contents

__all__ = ["HOST", "Measured", "Step", "measure", "measured_from"]

HOST = "host"


@dataclass
class Step:
    """One kernel, or a part of the host. Times are in microseconds: start and duration in the last run, and
    the mean."""

    name: str
    kernel: str
    device: str
    nodes: list[str]
    """Of the IR; those that are fused into the kernel too. Empty for a copy to another layout."""
    start: float
    last: float
    time: float
    bytes: float = 0.0
    flops: float = 0.0

    @property
    def least_bytes(self) -> float:
        """What it must move: nothing, if it only copies to another layout."""
        return self.bytes if self.nodes else 0.0


@dataclass
class Measured:
    model: str
    device: str
    runs: int
    wall_ms: float
    """Of one run."""
    ir: dict[str, Any]
    steps: list[Step]
    reasons: Mapping[str, str] = field(default_factory=dict)
    """By node: why it runs on the host."""

    def __post_init__(self) -> None:
        self.module_of: dict[str, str] = {n["name"]: n.get("module_path") or "" for n in self.ir["nodes"]}

    @property
    def bytes(self) -> float:
        return sum(step.bytes for step in self.steps)

    @property
    def least_bytes(self) -> float:
        """If each op reads its operands and writes its results once, and nothing is copied to another layout."""
        return sum(step.least_bytes for step in self.steps)

    def module(self, step: Step) -> str:
        """The module of the first node that the step computes."""
        return next((self.module_of[name] for name in step.nodes if name in self.module_of), "")


def measure(module: Any, inputs: Any, runs: int) -> Measured:
    """Profiles a compiled or loaded module on inputs in the order of its signature."""
    module.run_flat(inputs)  # prepares weights
    return measured_from(module, module.runner.profile(inputs, runs), runs)


def measured_from(module: Any, profiler: Any, runs: int) -> Measured:
    contents = Contents.of(module.as_saved(), module.model.name or "the model")
    ir = contents.ir or {"nodes": [], "graph_inputs": [], "graph_outputs": []}
    device = module.runner.device
    figures = profiler.to_dict()
    if isinstance(contents.program, PartitionPlan):
        steps, reasons = list(_of_parts(profiler, device.kind)), contents.program.reasons
    else:
        steps, reasons = list(_of_program(profiler, contents.program.data, device.kind)), {}
    return Measured(
        figures["model"] or "model", f"{device.kind} ({device.name})", runs, figures["wall_ms"] / runs, ir, steps,
        reasons,
    )  # fmt: skip


def _of_program(profiler: Any, data: Mapping[str, Any], device: str, start: float = 0.0) -> Iterator[Step]:
    nodes = {op["name"]: list(op.get("nodes") or []) for op in data["main"]}
    planned = [step.ops for step in profiler.executor.steps().main]
    times = profiler.times()
    fused = planned if len(planned) == len(times) else [[t.op] for t in times]
    for t, ops in zip(times, fused, strict=True):
        computed = list(dict.fromkeys(name for op in ops for name in nodes.get(op, [])))
        mean = t.nanoseconds / max(t.calls, 1) / 1e3
        begin, last = start + t.last_start / 1e3, t.last_nanoseconds / 1e3
        yield Step(t.op, t.kernel, device, computed, begin, last, mean, t.bytes, t.flops)


def _of_parts(profiler: PartsProfiler, device: str) -> Iterator[Step]:
    for part, start in profiler.starts():
        number = part.partition_id
        if part.target == "npu":
            program = profiler.dag.npu_programs[number]
            yield from _of_program(profiler.of_part(number), program.data, device, start / 1e3)
        else:
            names = [node["name"] for node in part.nodes]
            times = [ns / 1e3 for ns in profiler.host_nanoseconds(number)]
            mean = sum(times) / len(times)
            yield Step(profiler.name_of(number), "PyTorch", HOST, names, start / 1e3, times[-1], mean)
