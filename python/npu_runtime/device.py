"""Devices that programs run on."""

from __future__ import annotations

from npu_runtime._core import Device, DeviceInfo, devices

__all__ = ["Device", "DeviceInfo", "devices"]
