"""Running compiled programs."""

from __future__ import annotations

from npu_runtime._core import Executor, KernelTime, PlanSummary, Session
from npu_runtime.outputs import Outputs

__all__ = ["Executor", "KernelTime", "Outputs", "PlanSummary", "Session"]
