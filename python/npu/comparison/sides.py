"""What computes steps: a device, by the kernels of its own plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from npu_compiler import CompiledProgram
from npu_runtime import Device, Executor, devices
from npu_runtime.device import AnyDevice

from npu.comparison.groups import Group

__all__ = ["DeviceProgram", "DeviceSide", "Side", "SideProgram", "WeightSource"]


class WeightSource(Protocol):
    def get(self, name: str) -> Any:
        """The array of a weight of the program."""


class SideProgram(Protocol):
    """A program as one side runs it."""

    @property
    def fused(self) -> list[list[int]]:
        """Ops of ``main``, by index, that one kernel computes."""

    def kernels(self, group: Group) -> list[str]: ...

    def run(self, group: Group, given: Mapping[int, Any]) -> dict[int, Any]:
        """The results of a group from its operands, both as arrays by value. Results may be missing."""

    def prepare(self, steps: Sequence[int], given: Mapping[int, Any], wanted: Sequence[int]) -> list[Any]:
        """The same for ops of ``prepare``."""


@runtime_checkable
class Side(Protocol):
    @property
    def name(self) -> str: ...

    def open(self, program: CompiledProgram, source: WeightSource) -> SideProgram: ...


class DeviceSide:
    def __init__(self, device: AnyDevice | None, threads: int = 0) -> None:
        self.device = device if isinstance(device, Device) else Device(device)
        self.threads = threads
        # What opens it again: where there is no Metal, "metal" alone would not.
        present = {info.kind for info in devices() if info.available}
        self.name = "metal:emulated" if self.device.kind == "metal" and "metal" not in present else self.device.kind

    def open(self, program: CompiledProgram, source: WeightSource) -> SideProgram:
        return DeviceProgram(program, Executor(program, self.device, threads=self.threads))


class DeviceProgram:
    def __init__(self, program: CompiledProgram, executor: Executor) -> None:
        self._steps = executor.steps()
        self._planned = self._steps.main
        count = len(program.data["values"])
        index = {op["name"]: i for i, op in enumerate(program.data["main"])}
        self._ops = [[index[name] for name in step.ops] for step in self._planned]
        # Copies to another layout: by what they write, or, if a kernel cannot write the layout, by what they read.
        self._copies_to: dict[int, int] = {}
        self._copies_from: dict[int, int] = {}
        for s, step in enumerate(self._planned):
            if not step.ops and step.writes[0] >= count:
                self._copies_to[step.writes[0]] = s
            elif not step.ops:
                self._copies_from[step.reads[0]] = s

    @property
    def fused(self) -> list[list[int]]:
        return [ops for ops in self._ops if len(ops) > 1]

    def kernels(self, group: Group) -> list[str]:
        return [self._planned[s].kernel for s in self._kernel_steps(group)]

    def run(self, group: Group, given: Mapping[int, Any]) -> dict[int, Any]:
        results = self._steps.run(self._all_steps(group), dict(given), group.results)
        return {v: buffer.to_numpy() for v, buffer in zip(group.results, results, strict=True)}

    def prepare(self, steps: Sequence[int], given: Mapping[int, Any], wanted: Sequence[int]) -> list[Any]:
        return [buffer.to_numpy() for buffer in self._steps.run(steps, dict(given), wanted, prepare=True)]

    def _kernel_steps(self, group: Group) -> list[int]:
        ops = set(group.ops)
        return [s for s, own in enumerate(self._ops) if own and ops.issuperset(own)]

    def _all_steps(self, group: Group) -> list[int]:
        steps = set(self._kernel_steps(group))
        for s in list(steps):
            steps |= {self._copies_from[v] for v in self._planned[s].writes if v in self._copies_from}
            waiting = [v for v in self._planned[s].reads if v in self._copies_to]
            while waiting:  # a copy may be made from another one
                copy = self._copies_to[waiting.pop()]
                steps.add(copy)
                waiting += [v for v in self._planned[copy].reads if v in self._copies_to]
        return sorted(steps)
