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

__all__ = ["DAGExecutor", "sub_ir"]


class DAGExecutor:
    """Runs a ``PartitionPlan``. Only what crosses from one part to another is moved."""

    def __init__(self, plan: Any, backend: Backend, compile_fn: Callable[[dict[str, Any]], Any] | None = None) -> None:
        if compile_fn is None:
            import npu_compiler

            compile_fn = npu_compiler.compile
        self.plan, self.backend = plan, backend
        self.npu_programs: dict[int, Any] = {}
        self._executors: dict[int, Any] = {}
        self._weights_of: dict[int, Any] = {}
        self._host: dict[int, HostPart] = {}
        self._parts = [step for step in plan.steps if hasattr(step, "target")]
        self._loaded = False
        for part in self._parts:
            ir = sub_ir(plan.original_ir, part)
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
            shape = tuple(inputs[meta["name"]].shape)
            if shape != tuple(meta["shape"]):
                raise InvalidValueError(
                    format_error("dag", f"input '{meta['name']}'", got=list(shape), expected=str(meta["shape"]))
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


def sub_ir(ir: Mapping[str, Any], part: Any) -> dict[str, Any]:
    """The IR of one part alone: it takes and returns what crosses its border."""
    mapping = ir.get("weight_name_mapping", {})
    produced = {t["name"]: t for node in ir["nodes"] for t in node["outputs"]}
    entering = {t["name"]: t for t in ir["graph_inputs"]}
    read = {t["name"] for node in part.nodes for t in node["inputs"]}
    inside = {t["name"] for node in part.nodes for t in node["outputs"]}
    names = [n for n in part.input_names if (n in entering or n in produced) and n not in inside]
    read_weights = {mapping.get(name, name) for name in read}
    inputs = [_plain(entering.get(n) or produced[n]) for n in names]
    return {
        "model_name": f"{ir.get('model_name', '')}_part{part.partition_id}",
        "pytorch_version": ir.get("pytorch_version", ""),
        "graph_inputs": inputs,
        "graph_outputs": [_plain(produced[n]) for n in part.output_names if n in produced],
        "weights": [w for w in ir["weights"] if w["name"] in read_weights],
        "weight_name_mapping": {k: v for k, v in mapping.items() if k in read},
        "nodes": [_rewired(node, set(names)) for node in part.nodes],
        "constants": {k: v for k, v in ir.get("constants", {}).items() if k in read_weights},
        "ties": dict(ir.get("ties", {})),
        "subgraphs": dict(ir.get("subgraphs", {})),
        "schema_version": ir.get("schema_version", 1),
    }


def _plain(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {k: meta[k] for k in ("name", "shape", "dtype")}


def _rewired(node: dict[str, Any], entering: set[str]) -> dict[str, Any]:
    """What another part made is an input here, and so its own producer."""
    inputs = [
        {**_plain(t), "producer_node": t["name"], "producer_output_idx": 0} if t["name"] in entering else t
        for t in node["inputs"]
    ]
    return {**node, "inputs": inputs}


def _as_numpy(value: Any) -> npt.NDArray[Any]:
    import numpy as np

    if isinstance(value, NPUBuffer):
        return value.to_numpy()
    if hasattr(value, "detach"):
        from npu_runtime.host import torch_to_numpy

        return torch_to_numpy(value)
    return np.asarray(value)
