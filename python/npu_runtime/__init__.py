"""Run compiled programs on the devices of this machine. Importing it does not import PyTorch."""

from __future__ import annotations

try:
    from npu_runtime._core import BuildInfo, CpuInfo, DeviceInfo, build_info, cpu_info, devices
except ModuleNotFoundError as error:
    raise ImportError(
        "[install] the compiled part npu_runtime._core is missing; got a source tree that was not built "
        "for this Python; expected an installed npu-simulation; try `pip install .` or `make setup` in the "
        "project"
    ) from error

from npu_runtime.errors import InternalError, InvalidValueError, NPUError, UnavailableError
from npu_runtime.threads import get_num_threads, set_num_threads

__version__: str = build_info().version

__all__ = [
    "BuildInfo",
    "CpuInfo",
    "DeviceInfo",
    "InternalError",
    "InvalidValueError",
    "NPUError",
    "UnavailableError",
    "__version__",
    "build_info",
    "cpu_info",
    "devices",
    "get_num_threads",
    "set_num_threads",
]
