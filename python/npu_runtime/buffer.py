"""Tensors that devices read and write."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import numpy.typing as npt

from npu_runtime._core import NPUBuffer, TensorSpec

__all__ = ["DeviceBuffer", "NPUBuffer"]


class DeviceBuffer(abc.ABC):
    """What the buffers of all devices have in common."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @property
    @abc.abstractmethod
    def alloc_shape(self) -> tuple[int, ...]: ...

    @property
    @abc.abstractmethod
    def dtype(self) -> np.dtype[Any]: ...

    @property
    @abc.abstractmethod
    def size_bytes(self) -> int: ...

    @property
    @abc.abstractmethod
    def native_handle(self) -> Any: ...

    @abc.abstractmethod
    def to_numpy(self, spec: TensorSpec | None = None) -> npt.NDArray[Any]: ...


DeviceBuffer.register(NPUBuffer)
