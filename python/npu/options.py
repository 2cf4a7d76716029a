"""Checks of the options that ``npu.compile``, ``npu.load`` and ``npu.Predictor`` share."""

from __future__ import annotations

from typing import Any

from npu_base.errors import InvalidTypeError, InvalidValueError, format_error
from npu_base.sizes import as_int
from npu_runtime import Device
from npu_runtime._core import MAX_THREADS, device_name
from npu_runtime.device import AnyDevice

__all__ = ["checked_flag", "checked_threads", "opened"]


def opened(device: AnyDevice | None) -> Device:
    """The device of this name, or the best one for None."""
    if isinstance(device, Device):
        return device
    name = None if device is None else device_name(device)
    return Device("cpu" if name == "cpu:0" else name)  # PyTorch's name of its only CPU


def checked_threads(threads: Any) -> int:
    count = as_int(threads)
    expected = f"1 to {MAX_THREADS}, or 0 for the default"
    if type(count) is not int:
        what, got = "the number of threads is not an integer", f"{threads!r:.60}"
        raise InvalidTypeError(format_error("npu", what, got=got, expected=expected))
    if not 0 <= count <= MAX_THREADS:
        raise InvalidValueError(
            format_error("npu", "the number of threads is out of range", got=f"{count}"[:60], expected=expected)
        )
    return count


def checked_flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        what = f"{name} has the wrong type"
        raise InvalidTypeError(format_error("npu", what, got=f"{value!r:.60}", expected="True or False"))
    return value
