"""Compiled modules of which PyTorch runs some nodes on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from npu_base.errors import AbsentError
from npu_compiler import CompiledProgram, PartitionPlan
from npu_runtime import DAGExecutor, Device
from npu_runtime.backend import backend_of
from npu_runtime.host import as_numpy, numpy_to_torch
from npu_runtime.parts_profiler import PartsProfiler

from npu.host_parts import host_nodes
from npu.runners import Runner
from npu.saving.parts import parts_of
from npu.saving.signature import Signature

__all__ = ["PartitionRunner"]


class PartitionRunner(Runner):
    """A model that the device cannot run as a whole: ``plan`` says what runs where."""

    plan: Any = None

    def __init__(
        self,
        plan: PartitionPlan,
        weights: Mapping[str, Any],
        signature: Signature,
        device: Device,
        threads: int,
        program_of: Callable[[dict[str, Any]], CompiledProgram],
    ) -> None:
        """``program_of`` gives the program for the IR of a part."""
        self.plan, self.device = plan, device
        mutations = plan.original_ir.get("mutations") or ()
        self._written = [mutation["target"] for mutation in mutations if mutation["kind"] == "buffer"]
        self.has_state = bool(self._written)
        self._inputs = [entry.name for entry in signature.inputs]
        self._outputs = [entry.name for entry in signature.outputs]
        self._backend = backend_of(device, threads)
        self._program_of = program_of
        self._dag = self._loaded(weights)

    def _loaded(self, weights: Mapping[str, Any]) -> DAGExecutor:
        dag = DAGExecutor(self.plan, self._backend, self._program_of)
        dag.load_weights(weights)
        return dag

    def weights_read(self) -> set[str]:
        return self._dag.weights_read()

    def update(self, weights: Mapping[str, Any]) -> None:
        self._dag = self._loaded(weights)

    def run(self, tensors: Sequence[Any], as_torch: bool) -> Sequence[Any]:
        outputs = self._dag.execute(self._named(tensors))
        if not as_torch:
            return [as_numpy(outputs[name]) for name in self._outputs]
        results = [numpy_to_torch(outputs[name]) for name in self._outputs]
        cuda = next((tensor.device for tensor in tensors if getattr(tensor, "is_cuda", False)), None)
        return results if cuda is None else [result.to(cuda) for result in results]

    def _named(self, tensors: Sequence[Any]) -> dict[str, Any]:
        given = (tensor.detach() if hasattr(tensor, "detach") else tensor for tensor in tensors)
        return dict(zip(self._inputs, given, strict=True))

    def reset(self) -> None:
        self._dag.reset()

    def state(self) -> dict[str, Any]:
        return {name: value for name in self._written if (value := self._dag.state(name)) is not None}

    def set_state(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            self._dag.set_state(name, value)

    def profile(self, tensors: Sequence[Any], runs: int = 1) -> PartsProfiler:
        profiler = PartsProfiler(self._dag)
        for _ in range(runs):
            profiler.run(self._named(tensors))
        return profiler

    def stored(self) -> Any:
        return self._dag.loaded_weights()

    def _without(self, name: str) -> NoReturn:
        raise AbsentError(
            f"this model has no single {name}, because it runs partly on the host; its parts are in .plan"
        )

    def steps(self) -> str:
        parts = [part.target for part in parts_of(self.plan)]
        return f"{parts.count('npu')} parts on {self.device.kind}, {parts.count('cpu')} on the host"

    def on_host(self) -> str:
        return host_nodes(self.plan, "the model")

    def __repr__(self) -> str:
        return f"{self.plan.original_ir['model_name']}: {self.steps()}"
