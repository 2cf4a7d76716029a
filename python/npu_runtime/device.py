"""Devices that programs run on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeAlias

from npu_runtime._core import Device, DeviceInfo, devices

if TYPE_CHECKING:
    import torch

__all__ = ["AnyDevice", "Device", "DeviceInfo", "devices", "opening_name"]

AnyDevice: TypeAlias = "Device | str | torch.device"
"""What ``Device(...)`` takes, or what it makes."""


def opening_name(device: Device) -> str:
    """What ``Device(...)`` opens it by. The kind of an emulated Metal is 'metal', which opens only a real one."""
    return "metal:emulated" if device.kind == "metal" and sys.platform != "darwin" else device.kind
