"""Tensors of a library of our own that offers DLPack's C exchange interface."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.support.dlpack import DLDataType, DLDevice, DLTensor, new_capsule

VIEW = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(DLTensor))
TAKE = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p))
OTHER = ctypes.PYFUNCTYPE(ctypes.c_int)


class Api(ctypes.Structure):
    pass


Api._fields_ = [
    ("major", ctypes.c_uint32),
    ("minor", ctypes.c_uint32),
    ("previous", ctypes.POINTER(Api)),
    ("allocate", OTHER),
    ("lend", OTHER),
    ("take", TAKE),
    ("view", VIEW),
    ("stream", OTHER),
]


class Lender:
    """A library's tensor whose interface a test spoils; ``asked`` counts what goes around it."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array, self.asked = np.ascontiguousarray(array), 0

    def __dlpack__(self, **options: object) -> Any:
        self.asked += 1
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def lender(
    *,
    view: int = 0,
    spoil: Callable[[DLTensor], None] | None = None,
    major: int = 1,
    previous: Any = None,
    capsule: bytes = b"dlpack_exchange_api",
    without: str | None = None,
) -> Any:
    """A class of Lenders; ``spoil`` changes what they lend, ``without`` names a function that is missing."""
    extents = (ctypes.c_int64 * 2)(3, 4)

    def lent(object: int, out: Any) -> int:
        array = ctypes.cast(object, ctypes.py_object).value.array
        out[0] = DLTensor(array.ctypes.data, DLDevice(1, 0), 2, DLDataType(2, 32, 1), extents, None, 0)
        if spoil is not None:
            spoil(out[0])
        return view

    api = Api(major, 3, previous, view=VIEW(lent), take=TAKE(lambda *_: -1))
    if without is not None:
        setattr(api, without, type(getattr(api, without))())
    offered = new_capsule(ctypes.addressof(api), capsule, None)
    return type("Own", (Lender,), {"__dlpack_c_exchange_api__": offered, "kept": (api, extents)})
