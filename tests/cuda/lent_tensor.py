"""Tensors of a GPU's stand-in, as another library lends them by DLPack."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.cuda.stand_in import StandIn
from tests.support.dlpack import DLDataType, DLDevice, DLTensor, new_capsule

KCUDA = 2
FLOAT, BFLOAT, INT = 2, 4, 0


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", _Deleter)]
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


class Gpu:
    """A library of its own: a context and a stream, which it never waits for."""

    def __init__(self, machine: StandIn, ordinal: int = 0) -> None:
        self.machine, self.ordinal = machine, ordinal
        self.context, self.stream, self.event = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        machine.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), ordinal)
        self.call("cuStreamCreate", ctypes.byref(self.stream), 1)
        self.call("cuEventCreate", ctypes.byref(self.event), 0)

    def call(self, function: str, *arguments: object) -> None:
        self.machine.call("cuCtxPushCurrent_v2", self.context)
        try:
            self.machine.call(function, *arguments)
        finally:
            self.machine.call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def tensor(self, data: npt.NDArray[Any], **options: Any) -> LentTensor:
        return LentTensor(self, data, **options)


class LentTensor:
    """Has been written to in the library's stream when it is lent, so that a borrower must wait for that."""

    def __init__(
        self,
        gpu: Gpu,
        data: npt.NDArray[Any],
        *,
        bfloat16: bool = False,
        strides: Sequence[int] | None = None,
        offset: int = 0,
        orders: bool = True,
    ) -> None:
        self.gpu, self.shape, self._orders, self.loans, self.streams = gpu, data.shape, orders, 0, list[int]()
        self._offset = offset
        self._strides = strides
        code = BFLOAT if bfloat16 else FLOAT if data.dtype.kind == "f" else INT
        self.dtype = data.dtype
        self._dtype = DLDataType(code, 8 * data.itemsize, 1)
        self.address = ctypes.c_uint64()
        gpu.call("cuMemAlloc_v2", ctypes.byref(self.address), data.nbytes + offset + 64)
        self.write(data)
        self._keep: list[object] = []

    def write(self, data: npt.NDArray[Any]) -> None:
        data = np.ascontiguousarray(data)
        to = ctypes.c_uint64(self.address.value + self._offset)
        pointer, size = ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(data.nbytes)
        self.gpu.call("cuMemcpyHtoDAsync_v2", to, pointer, size, self.gpu.stream)

    def free(self) -> None:
        self.gpu.call("cuStreamSynchronize", self.gpu.stream)
        self.gpu.call("cuMemFree_v2", self.address)

    def __dlpack_device__(self) -> tuple[int, int]:
        return KCUDA, self.gpu.ordinal

    def __dlpack__(self, *, stream: int) -> Any:
        self.streams.append(stream)
        if self._orders:
            self.gpu.call("cuEventRecord", self.gpu.event, self.gpu.stream)
            self.gpu.call("cuStreamWaitEvent", ctypes.c_void_p(stream), self.gpu.event, 0)
        self.loans += 1

        def give_back(_: object) -> None:
            self.loans -= 1

        shape = (ctypes.c_int64 * len(self.shape))(*self.shape)
        strides = None if self._strides is None else (ctypes.c_int64 * len(self._strides))(*self._strides)
        tensor = DLTensor(
            data=self.address.value,
            device=DLDevice(*self.__dlpack_device__()),
            ndim=len(self.shape),
            dtype=self._dtype,
            shape=shape,
            strides=strides,
            byte_offset=self._offset,
        )
        managed = _Managed(tensor=tensor, context=None, deleter=_Deleter(give_back))
        self._keep.append((managed, shape, strides))
        return new_capsule(ctypes.addressof(managed), b"dltensor", None)


def address_in(capsule: Any, ordinal: int = 0) -> int:
    """Where the tensor is that a capsule lends, which must be on that GPU."""
    tensor = ctypes.cast(_pointer(capsule, b"dltensor"), ctypes.POINTER(_Managed)).contents.tensor
    assert (tensor.device.type, tensor.device.id) == (KCUDA, ordinal)
    return int(tensor.data + tensor.byte_offset)


def give_back(capsule: Any) -> None:
    """As a consumer does when it has finished with the tensor."""
    pointer = ctypes.cast(_pointer(capsule, b"dltensor"), ctypes.POINTER(_Managed))
    ctypes.pythonapi.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
    ctypes.pythonapi.PyCapsule_SetName(capsule, b"used_dltensor")
    pointer.contents.deleter(pointer)
