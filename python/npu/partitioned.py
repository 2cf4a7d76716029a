"""Compiled modules of which PyTorch runs some nodes on the host."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import npu_compiler
from npu_base.errors import InvalidValueError, format_error
from npu_runtime import DAGExecutor, Device, Profiler
from npu_runtime.backend import backend_of
from npu_runtime.host import numpy_to_torch
from torch import Tensor
from torch_ir import IR

from npu.compiled_module import CompiledModule
from npu.host_parts import HostWarning, host_nodes, strategy_of

__all__ = ["PartitionedModule"]


class PartitionedModule(CompiledModule):
    """What ``npu.compile`` returns for a model that the device cannot run as a whole: ``plan`` says what runs where.

    It is called as other compiled modules are, and keeps state as they do.
    """

    def __init__(
        self,
        ir: IR,
        weights: Mapping[str, Tensor],
        device: Device,
        threads: int,
        compile_part: Callable[[dict[str, Any]], Any],
    ) -> None:
        self._describe(ir)
        whole = ir.to_dict()
        self.plan = npu_compiler.partition(whole, strategy=strategy_of(whole))
        self._device = device
        self._dag = DAGExecutor(self.plan, backend_of(device, threads), compile_part)
        self._dag.load_weights(weights)
        advice = "npu.explain(model, inputs) says why, fallback='error' forbids it"
        warnings.warn(f"npu.compile: {host_nodes(self.plan, 'the model')}. {advice}", HostWarning, stacklevel=4)

    def _run_plain(self, tensors: tuple[Any, ...]) -> tuple[Tensor, ...] | None:
        return None

    def _run(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        outputs = self._dag.execute({n: t.detach() for n, t in zip(self._names, tensors, strict=True)})
        results = tuple(numpy_to_torch(outputs[name]) for name in self._result_names)
        cuda = next((tensor.device for tensor in tensors if tensor.is_cuda), None)
        return results if cuda is None else tuple(result.to(cuda) for result in results)

    def reset(self) -> None:
        self._dag.reset()

    def profile(self, *args: Any, **kwargs: Any) -> Profiler:
        self._refuse("profile")

    def save(self, path: str | os.PathLike[str]) -> None:
        self._refuse("save")

    def __reduce__(self) -> tuple[Any, ...]:
        self._refuse("pickle")

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidValueError(
            format_error(
                "npu",
                f"{what} does not support a model that runs partly on the host",
                got=self._summary,
                expected="a model that the device runs as a whole",
                action="npu.explain, which says what the device lacks",
            )
        )

    @property
    def _summary(self) -> str:
        parts = [step.target for step in self.plan.steps if hasattr(step, "target")]
        return (
            f"{self.ir.model_name}: {parts.count('npu')} parts on {self._device.kind}, {parts.count('cpu')} on the host"
        )

    def __getattr__(self, name: str) -> Any:
        if name in ("program", "executor", "weights"):
            raise AttributeError(
                f"this model has no single {name}, because it runs partly on the host; its parts are in .plan"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"PartitionedModule({self._summary})"
