"""The Metal device that tests run on."""

from __future__ import annotations

import pytest
from npu_runtime import Device, UnavailableError


def metal_device() -> Device:
    """That of a Mac, else the emulated one; skips, with the reason, where a build has neither."""
    for kind in ("metal", "metal:emulated"):
        try:
            return Device(kind)
        except UnavailableError as error:
            reason = str(error)
    pytest.skip(reason)
