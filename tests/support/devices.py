"""The devices that tests run on."""

from __future__ import annotations

import os
from typing import Any

import pytest
from npu_runtime import Backend, CPUBackend, Device, NPUBuffer, UnavailableError


def chosen_device() -> Device:
    """What NPU_TEST_DEVICE names, else the CPU: every test of programs can run on any device."""
    return Device(os.environ.get("NPU_TEST_DEVICE", "cpu"))


def metal_device() -> Device:
    """That of a Mac, else the emulated one; skips, with the reason, where a build has neither."""
    for kind in ("metal", "metal:emulated"):
        try:
            return Device(kind)
        except UnavailableError as error:
            reason = str(error)
    pytest.skip(reason)


def device_of(kind: str) -> Device:
    return metal_device() if kind == "metal" else chosen_device()


def shares_memory(device: Device) -> bool:
    """Whether the host sees the memory of kernels itself, and not copies: on no discrete GPU."""
    try:
        memoryview(NPUBuffer.zeros([1], device))  # type: ignore[arg-type]
    except BufferError:
        return False
    return True


def of_shared_memory(test: Any) -> Any:
    """A mark for tests that look at one memory from both sides."""
    shared = shares_memory(chosen_device())
    return pytest.mark.skipif(not shared, reason="the host does not reach the memory of this device")(test)


class OnDevice(CPUBackend):
    """A backend on any device: what MetalBackend is on a Mac."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self._device = device


def backend_of(kind: str) -> Backend:
    return OnDevice(device_of(kind))
