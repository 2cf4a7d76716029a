"""Partitioned models: programs on the device, PyTorch on the host for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from npu_runtime._core import NPUBuffer
from npu_runtime.backend import Backend
from npu_runtime.errors import InvalidValueError, format_error
from npu_runtime.host import HostPart
from npu_runtime.weight_loader import load_weights

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["DAGExecutor"]


class DAGExecutor:
    """Runs a ``PartitionPlan``. Only what crosses from one part to another is moved."""

    def __init__(self, plan: Any, backend: Backend, compile_fn: Callable[[dict[str, Any]], Any] | None = None) -> None:
        import npu_compiler

        compile_fn = compile_fn or npu_compiler.compile
        self.plan, self.backend = plan, backend
        self.npu_programs: dict[int, Any] = {}
        self._executors: dict[int, Any] = {}
        self._weights_of: dict[int, Any] = {}
        self._host: dict[int, HostPart] = {}
        self._parts = [step for step in plan.steps if hasattr(step, "target")]
        self._loaded = False
        for part in self._parts:
            ir = npu_compiler.partition_ir(plan, part)
            if part.target == "npu":
                program = compile_fn(ir)
                self.npu_programs[part.partition_id] = program
                self._executors[part.partition_id] = backend.create_executor(program)
            else:
                self._host[part.partition_id] = HostPart(ir)
        self._last_use = self._last_uses()

    def load_weights(self, weights: Mapping[str, Any]) -> None:
        """State-dict names to arrays. Replaces what was loaded before, on the device and on the host."""
        used: dict[int, Any] = {}
        for part in self._parts:
            if part.target == "npu":
                program = self.npu_programs[part.partition_id]
                names = {n for spec in program.weight_specs for n in (spec.name, *self._ties_of(spec.name))}
                chosen = {n: weights[n] for n in names if n in weights}
                used[part.partition_id] = load_weights(chosen, program, self.backend.device)
            else:
                self._host[part.partition_id].load_weights(weights)
        self._weights_of = used
        self._loaded = True

    def execute(
        self, inputs: Mapping[str, Any], weights: Mapping[str, Any] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Graph inputs by name (NumPy, torch or NPUBuffer); returns NumPy arrays by graph output name."""
        if weights is not None:
            self.load_weights(weights)
        self._check(inputs)
        values: dict[str, Any] = dict(inputs)
        for index, part in enumerate(self._parts):
            given = {name: values[name] for name in part.input_names if name in values}
            if part.target == "npu":
                executor = self._executors[part.partition_id]
                values.update(executor.run(given, self._weights_of.get(part.partition_id)))
            else:
                values.update(self._host[part.partition_id].run(given))
            for name in self._last_use.get(index, ()):
                values.pop(name, None)
        return {t["name"]: _as_numpy(values[t["name"]]) for t in self.plan.original_ir["graph_outputs"]}

    def _check(self, inputs: Mapping[str, Any]) -> None:
        ir = self.plan.original_ir
        if not isinstance(inputs, Mapping):
            raise InvalidValueError(
                format_error("dag", "inputs must be a dict of names to tensors", got=type(inputs).__name__)
            )
        if not self._loaded and ir.get("weights") and any(self._needs_weights(p) for p in self._parts):
            raise InvalidValueError(
                format_error("dag", "weights are not loaded", action="load_weights(...) or execute(..., weights=...)")
            )
        known = {t["name"] for t in ir["graph_inputs"]}
        read = {name for part in self._parts for name in part.input_names}
        read |= {t["name"] for t in ir["graph_outputs"]}
        missing, surplus = sorted((known & read) - set(inputs)), sorted(set(inputs) - known)
        if missing or surplus:
            raise InvalidValueError(
                format_error(
                    "dag",
                    "the inputs' names are wrong",
                    got=f"missing {missing}, unknown {surplus}",
                    expected=", ".join(sorted(known)),
                )
            )
        for meta in ir["graph_inputs"]:
            if meta["name"] not in inputs:
                continue
            value = inputs[meta["name"]]
            if not hasattr(value, "shape") or not hasattr(value, "dtype"):
                got, expected = type(value).__name__, "an NPUBuffer, a NumPy array or a tensor"
            else:
                got = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
                expected = f"{meta['dtype']}{list(meta['shape'])}"
            if got != expected:
                raise InvalidValueError(
                    format_error("dag", f"input '{meta['name']}' does not fit", got=got, expected=expected)
                )

    def _needs_weights(self, part: Any) -> bool:
        if part.target == "npu":
            return bool(self.npu_programs[part.partition_id].weight_specs)
        return bool(self._host[part.partition_id].ir["weights"])

    def _ties_of(self, name: str) -> list[str]:
        return [tie for tie, owner in self.plan.original_ir.get("ties", {}).items() if owner == name]

    def _last_uses(self) -> dict[int, list[str]]:
        """Values that no later part reads, by the part after which they are dropped."""
        keep = {t["name"] for t in self.plan.original_ir["graph_outputs"]}
        last: dict[str, int] = {}
        for index, part in enumerate(self._parts):
            for name in [*part.input_names, *part.output_names]:
                last[name] = index
        drops: dict[int, list[str]] = {}
        for name, index in last.items():
            if name not in keep:
                drops.setdefault(index, []).append(name)
        return drops


def _as_numpy(value: Any) -> npt.NDArray[Any]:
    import numpy as np

    if isinstance(value, NPUBuffer):
        return value.to_numpy()
    if hasattr(value, "detach"):
        from npu_runtime.host import torch_to_numpy

        return torch_to_numpy(value)
    return np.asarray(value)
