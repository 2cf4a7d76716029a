"""Run compiled programs on the devices of this machine. Importing it does not import PyTorch."""

from __future__ import annotations

import sys

from npu_base.errors import NotBuiltError

try:
    from npu_runtime._core import (
        BuildInfo,
        CpuInfo,
        Device,
        DeviceInfo,
        Executor,
        NPUBuffer,
        Program,
        Session,
        TensorSpec,
        Weights,
        build_info,
        cpu_info,
        devices,
        set_library_folders,
    )
except ModuleNotFoundError as error:
    raise NotBuiltError(
        "[install] the extension npu_runtime._core is missing; got a source tree that was not built "
        "for this Python; expected an installed npu-simulation; try `pip install .` or `make setup` in the "
        "project"
    ) from error

from npu_runtime.backend import Backend, CPUBackend, CUDABackend, MetalBackend
from npu_runtime.buffer import DeviceBuffer
from npu_runtime.dag_executor import DAGExecutor
from npu_runtime.errors import (
    FileError,
    InternalError,
    InvalidTypeError,
    InvalidValueError,
    MissingOutputError,
    MissingWeightError,
    NPUError,
    UnavailableError,
)
from npu_runtime.host import execute_cpu_partition
from npu_runtime.profiler import Profiler, profile
from npu_runtime.threads import get_num_threads, set_num_threads
from npu_runtime.weight_loader import load_weights, load_weights_from_safetensors

set_library_folders([folder for folder in sys.path if isinstance(folder, str) and folder])

__version__: str = build_info().version

__all__ = [
    "Backend",
    "BuildInfo",
    "CPUBackend",
    "CUDABackend",
    "CpuInfo",
    "DAGExecutor",
    "Device",
    "DeviceBuffer",
    "DeviceInfo",
    "Executor",
    "FileError",
    "InternalError",
    "InvalidTypeError",
    "InvalidValueError",
    "MetalBackend",
    "MissingOutputError",
    "MissingWeightError",
    "NPUBuffer",
    "NPUError",
    "Profiler",
    "Program",
    "Session",
    "TensorSpec",
    "UnavailableError",
    "Weights",
    "__version__",
    "build_info",
    "cpu_info",
    "devices",
    "execute_cpu_partition",
    "get_num_threads",
    "load_weights",
    "load_weights_from_safetensors",
    "profile",
    "set_num_threads",
]
