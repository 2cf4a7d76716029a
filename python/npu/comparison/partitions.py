"""Comparing partitioned models: parts on the host run once, by PyTorch, and both devices get their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import npu_compiler
from npu_compiler import CompiledProgram, Partition, PartitionPlan
from npu_runtime import CPUBackend, DAGExecutor, Device, NPUBuffer, Weights
from npu_runtime.argument_types import AnyProgram
from npu_runtime.errors import NPUError
from npu_runtime.host import torch_to_numpy

from npu.comparison.prepared import LoadedWeights
from npu.comparison.report import Comparison
from npu.comparison.walk import Walk

__all__ = ["compare_parts"]

MakeWalk = Callable[[CompiledProgram, Mapping[str, Any], int, LoadedWeights], Walk]


def compare_parts(
    plan: PartitionPlan,
    device: Device,
    make_walk: MakeWalk,
    report: Comparison,
    inputs: Mapping[str, Any],
    weights: Any,
) -> None:
    backend = _Comparing(plan, device, make_walk, report)
    executor = DAGExecutor(plan, backend, backend.compile)
    executor.load_weights(weights)
    try:
        report.outputs = dict(executor.execute(inputs))
    except NPUError:
        if not report.stopped:  # else the report says why
            raise


class _Comparing(CPUBackend):
    """Gives a DAGExecutor executors that compare each step, and go on with the results of the first device."""

    def __init__(self, plan: PartitionPlan, device: Device, make_walk: MakeWalk, report: Comparison) -> None:
        super().__init__()
        self._device = device
        self._make_walk, self._report = make_walk, report
        self._numbers = [s.partition_id for s in plan.steps if isinstance(s, Partition) and s.target == "npu"]
        self._irs: dict[int, Mapping[str, Any]] = {}  # by the program

    def compile(self, ir: dict[str, Any]) -> CompiledProgram:
        program = npu_compiler.compile(ir)
        self._irs[id(program)] = ir
        return program

    def create_executor(self, program: AnyProgram) -> Any:
        assert isinstance(program, CompiledProgram)
        return _PartExecutor(program, self._irs[id(program)], self._numbers.pop(0), self._make_walk, self._report)


class _PartExecutor:
    def __init__(
        self, program: CompiledProgram, ir: Mapping[str, Any], number: int, make_walk: MakeWalk, report: Comparison
    ) -> None:
        self.program, self._ir, self._number = program, ir, number
        self._make_walk, self._report = make_walk, report

    def run(self, inputs: Mapping[str, Any], weights: Weights | None) -> dict[str, Any]:
        source = LoadedWeights(Weights() if weights is None else weights, self.program)
        walk = self._make_walk(self.program, self._ir, self._number, source)
        outputs = walk.run({name: _as_numpy(value) for name, value in inputs.items()})
        if self._report.stopped:
            raise NPUError(self._report.stopped)
        return outputs


def _as_numpy(value: Any) -> Any:
    if isinstance(value, NPUBuffer):
        return value.to_numpy()
    return torch_to_numpy(value) if hasattr(value, "detach") else value
