"""Compiled modules of which PyTorch runs some nodes on the host."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import npu_compiler
from npu_base.errors import InvalidValueError, format_error
from npu_runtime import DAGExecutor, Device, Profiler
from npu_runtime.backend import backend_of
from npu_runtime.host import numpy_to_torch
from torch import Tensor
from torch_ir import IR

from npu.host_parts import HostWarning, host_nodes, strategy_of
from npu.runners import Runner
from npu.saving.signature import Signature

__all__ = ["PartitionRunner"]


class PartitionRunner(Runner):
    """A model that the device cannot run as a whole: ``plan`` says what runs where."""

    plan: Any = None

    def __init__(
        self,
        ir: IR,
        weights: Mapping[str, Tensor],
        signature: Signature,
        device: Device,
        threads: int,
        compile_part: Callable[[dict[str, Any]], Any],
    ) -> None:
        whole = ir.to_dict()
        self.plan = npu_compiler.partition(whole, strategy=strategy_of(whole))
        self.device = device
        self.has_state = any(mutation.kind == "buffer" for mutation in ir.mutations)
        self._name = ir.model_name
        self._inputs = [entry.name for entry in signature.inputs]
        self._outputs = [entry.name for entry in signature.outputs]
        self._backend = backend_of(device, threads)
        self._compile_part = compile_part
        self._programs: dict[str, Any] = {}
        self._dag = self._loaded(weights)
        advice = "npu.explain(model, inputs) says why, fallback='error' forbids it"
        warnings.warn(f"npu.compile: {host_nodes(self.plan, 'the model')}. {advice}", HostWarning, stacklevel=4)

    def _loaded(self, weights: Mapping[str, Any]) -> DAGExecutor:
        dag = DAGExecutor(self.plan, self._backend, self._compiled)
        dag.load_weights(weights)
        return dag

    def _compiled(self, ir: dict[str, Any]) -> Any:
        """Once for each part, not for each set of weights."""
        key = ir["nodes"][0]["name"] if ir["nodes"] else ""
        if key not in self._programs:
            self._programs[key] = self._compile_part(ir)
        return self._programs[key]

    def weights_read(self) -> set[str]:
        return self._dag.weights_read()

    def update(self, weights: Mapping[str, Any]) -> None:
        self._dag = self._loaded(weights)

    def run(self, tensors: Sequence[Any], as_torch: bool) -> Sequence[Any]:
        given = (t.detach() if isinstance(t, Tensor) else t for t in tensors)
        outputs = self._dag.execute(dict(zip(self._inputs, given, strict=True)))
        if not as_torch:
            return [outputs[name] for name in self._outputs]
        results = [numpy_to_torch(outputs[name]) for name in self._outputs]
        cuda = next((tensor.device for tensor in tensors if getattr(tensor, "is_cuda", False)), None)
        return results if cuda is None else [result.to(cuda) for result in results]

    def reset(self) -> None:
        self._dag.reset()

    def profile(self, tensors: Sequence[Any]) -> Profiler:
        self._refuse("profile")

    def stored(self) -> Any:
        self._refuse("save")

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidValueError(
            format_error(
                "npu",
                f"{what} does not support a model that runs partly on the host",
                got=repr(self),
                expected="a model that the device runs as a whole",
                action="npu.explain, which says what the device lacks",
            )
        )

    def _without(self, name: str) -> NoReturn:
        raise AttributeError(
            f"this model has no single {name}, because it runs partly on the host; its parts are in .plan"
        )

    def __repr__(self) -> str:
        parts = [step.target for step in self.plan.steps if hasattr(step, "target")]
        return f"{self._name}: {parts.count('npu')} parts on {self.device.kind}, {parts.count('cpu')} on the host"
