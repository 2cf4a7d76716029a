"""Weights, constants and what is prepared from them: made when a step needs them, and dropped after the last one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from npu_compiler import CompiledProgram
from npu_compiler.reference import dtype_of
from npu_runtime import Program, Weights
from npu_runtime.weight_loader import resolve_names

from npu.comparison.groups import Group, values_of
from npu.comparison.sides import SideProgram, WeightSource

__all__ = ["LoadedWeights", "PreparedValues", "RandomWeights"]


class LoadedWeights:
    """From a file that is mapped, so that they take no memory, or from the caller."""

    def __init__(self, weights: Weights, program: CompiledProgram) -> None:
        weights.check(program)
        self._weights = weights
        self._names = resolve_names({e["name"]: e.get("ties") or [] for e in program.data["weights"]}, weights)

    def get(self, name: str) -> Any:
        return self._weights[self._names[name]].to_numpy()


class RandomWeights:
    """The values of ``Weights.random``, one tensor at a time."""

    def __init__(self, program: CompiledProgram, seed: int = 0) -> None:
        self._program, self._seed = Program.parse(program.to_bytes()), seed

    def get(self, name: str) -> Any:
        return Weights.random(self._program, self._seed, only=name)[name].to_numpy()


class PreparedValues:
    def __init__(
        self, program: CompiledProgram, runner: SideProgram, source: WeightSource, groups: Sequence[Group]
    ) -> None:
        data = program.data
        self._program, self._runner, self._source = program, runner, source
        self._weights = {e["value"]: e["name"] for e in data["weights"]}
        self._constants = {e["value"]: e["offset"] for e in data["constants"]}
        self._steps = data["prepare"]
        self._makers: dict[int, list[int]] = {}
        for s, op in enumerate(self._steps):
            for value in values_of(op["out"]):
                self._makers.setdefault(value, []).append(s)
        self._values: dict[int, Any] = {}
        self._last = {v: g for g, group in enumerate(groups) for v in group.reads if v in self._makers}
        for op in reversed(self._steps):
            last = max((self._last.get(v, -1) for v in values_of(op["out"])), default=-1)
            for value in values_of(op["in"]):
                if value in self._makers:
                    self._last[value] = max(self._last.get(value, -1), last)

    def take(self, group: Group) -> dict[int, Any]:
        """What the group reads that does not depend on inputs."""
        known = (self._weights, self._constants, self._makers)
        return {value: self._value(value) for value in group.reads if any(value in where for where in known)}

    def release(self, done: int) -> None:
        """After the group ``done``."""
        for value in [v for v in self._values if self._last.get(v, -1) <= done]:
            del self._values[value]

    @property
    def held(self) -> Mapping[int, Any]:
        return self._values

    def _value(self, value: int) -> Any:
        if value in self._weights:
            return self._source.get(self._weights[value])
        if value in self._constants:
            meta = self._program.data["values"][value]
            count, offset = math.prod(meta["shape"]), self._constants[value]
            raw = np.frombuffer(self._program.constants, dtype_of(meta["dtype"]), count, offset)
            return raw.reshape(meta["shape"])
        if value not in self._values:
            self._make(value)
        return self._values[value]

    def _make(self, value: int) -> None:
        """By all steps that write parts of it, at once."""
        makers = self._makers[value]
        written = values_of(o for s in makers for o in self._steps[s]["out"])
        read = [v for v in values_of(o for s in makers for o in self._steps[s]["in"]) if v not in written]
        given = {v: self._value(v) for v in read}
        self._values.update(zip(written, self._runner.prepare(makers, given, written), strict=True))
