"""The device interface of partitioned models."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from npu_base.argument_types import AnyDType, AnyTensor

from npu_runtime._core import Device, Executor, NPUBuffer, TensorSpec, Weights, devices
from npu_runtime.argument_types import AnyProgram
from npu_runtime.errors import InvalidValueError, UnavailableError, format_error

__all__ = ["Backend", "CPUBackend", "CUDABackend", "MetalBackend", "backend_of"]


class Backend(abc.ABC):
    """The calls that a DAGExecutor makes to a device."""

    @property
    @abc.abstractmethod
    def name(self) -> str: ...

    @property
    @abc.abstractmethod
    def device(self) -> Any: ...

    @abc.abstractmethod
    def allocate_buffer(
        self, data: AnyTensor, alloc_shape: Sequence[int] | None = None, spec: TensorSpec | None = None
    ) -> Any: ...

    @abc.abstractmethod
    def allocate_zeros(
        self, shape: Sequence[int], dtype: AnyDType = "float32", alloc_shape: Sequence[int] | None = None
    ) -> Any: ...

    @abc.abstractmethod
    def create_executor(self, program: AnyProgram) -> Any: ...

    @abc.abstractmethod
    def execute(self, program: AnyProgram, inputs: dict[str, Any], weights: Weights | None) -> dict[str, Any]: ...

    @abc.abstractmethod
    def synchronize(self) -> None: ...


class _DeviceBackend(Backend):
    """One of the core's own devices."""

    def __init__(self, device: Device, threads: int = 0) -> None:
        self._device, self._threads = device, threads

    @property
    def name(self) -> str:
        return self._device.kind

    @property
    def device(self) -> Device:
        return self._device

    def allocate_buffer(
        self, data: AnyTensor, alloc_shape: Sequence[int] | None = None, spec: TensorSpec | None = None
    ) -> NPUBuffer:
        return NPUBuffer.from_numpy(data, self._device, alloc_shape, spec)

    def allocate_zeros(
        self, shape: Sequence[int], dtype: AnyDType = "float32", alloc_shape: Sequence[int] | None = None
    ) -> NPUBuffer:
        return NPUBuffer.zeros(list(shape), self._device, dtype, alloc_shape)

    def create_executor(self, program: AnyProgram) -> Executor:
        return Executor(program, self._device, threads=self._threads)

    def execute(self, program: AnyProgram, inputs: dict[str, Any], weights: Weights | None) -> dict[str, Any]:
        outputs: dict[str, Any] = self.create_executor(program).run(inputs, weights)
        return outputs

    def synchronize(self) -> None:
        """Nothing to wait for: a run returns when it has finished."""


def backend_of(device: Device, threads: int = 0) -> Backend:
    """The backend of a device that is open already. ``threads`` as in ``Executor``."""
    return _DeviceBackend(device, threads)


class CPUBackend(_DeviceBackend):
    """The CPU device, which every machine has."""

    def __init__(self) -> None:
        super().__init__(Device("cpu"))


class CUDABackend(_DeviceBackend):
    """An NVIDIA GPU, by its number. Raises where it is missing, and says why."""

    def __init__(self, index: int = 0) -> None:
        if type(index) is not int or index < 0:
            raise InvalidValueError(
                format_error("backend", "not the number of a GPU", got=repr(index), expected="0, 1, 2, ...")
            )
        super().__init__(Device("cuda" if index == 0 else f"cuda:{index}"))


class MetalBackend(_DeviceBackend):
    """An Apple GPU. If there is none, the error lists the available devices."""

    def __init__(self, config: None = None) -> None:
        metal = next((d for d in devices() if d.kind == "metal"), None)
        if metal is None or not metal.available:
            reason = metal.reason if metal else "this build does not support it"
            present = ", ".join(d.kind for d in devices() if d.available)
            raise UnavailableError(
                format_error(
                    "backend", f"there is no Metal device: {reason}", got=f"devices: {present}", action="CPUBackend()"
                )
            )
        super().__init__(Device("metal"))
