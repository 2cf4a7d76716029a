"""Host execution under the names that other code imports."""

from __future__ import annotations

from npu_runtime.host import execute_cpu_partition
from npu_runtime.host import numpy_to_torch as _numpy_to_torch
from npu_runtime.host import torch_to_numpy as _torch_to_numpy

__all__ = ["_numpy_to_torch", "_torch_to_numpy", "execute_cpu_partition"]
