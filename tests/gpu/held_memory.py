"""Memory of a GPU that is in use, as its driver says, without another library."""

from __future__ import annotations

import ctypes
import gc
import resource
from functools import cache
from pathlib import Path


@cache
def _driver() -> ctypes.CDLL:
    driver = ctypes.CDLL("libcuda.so.1")
    assert driver.cuInit(0) == 0
    return driver


def device_bytes(ordinal: int = 0) -> int:
    """In use on a GPU of NVIDIA, by all processes."""
    driver, device, context = _driver(), ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert driver.cuDeviceGet(ctypes.byref(device), ordinal) == 0
    assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    try:
        assert driver.cuCtxPushCurrent_v2(context) == 0
        assert driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
        assert driver.cuCtxPopCurrent_v2(ctypes.byref(context)) == 0
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    return total.value - free.value


def host_bytes() -> int:
    """Resident memory of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
