"""Devices that programs run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from npu_runtime._core import Device, DeviceInfo, devices

if TYPE_CHECKING:
    import torch

__all__ = ["AnyDevice", "Device", "DeviceInfo", "devices"]

AnyDevice: TypeAlias = "Device | str | torch.device"
"""What ``Device(...)`` takes, or what it makes."""
