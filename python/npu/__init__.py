"""Compile a PyTorch model and run it on a device: all that a user needs. ``import npu`` does not import PyTorch.

Names are imported when they are first used. The packages below do one thing each: ``torch_ir`` extracts a model's IR,
``npu_compiler`` compiles it, and ``npu_runtime`` runs what was compiled.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from npu_runtime import NPUError, __version__

if TYPE_CHECKING:
    from npu_compiler import partition
    from npu_runtime import DAGExecutor, Device, Executor, NPUBuffer, Profiler, Session, Weights, devices, load_weights
    from npu_runtime import NPUBuffer as Buffer
    from torch_ir import extract_ir as extract

    from npu.comparison.api import compare
    from npu.comparison.report import Comparison
    from npu.compiled import compile
    from npu.compiled_module import CompiledModule, load
    from npu.explanation import Explanation, explain
    from npu.generation import Generation, Generator, Piece
    from npu.kernels import KernelReport, check_kernels
    from npu.quantized.opening import open_checkpoint
    from npu.quantized.quantizing import quantize
    from npu.saving.predictor import Predictor

__all__ = [
    "Buffer",
    "Comparison",
    "CompiledModule",
    "DAGExecutor",
    "Device",
    "Executor",
    "Explanation",
    "Generation",
    "Generator",
    "KernelReport",
    "NPUBuffer",
    "NPUError",
    "Piece",
    "Predictor",
    "Profiler",
    "Session",
    "Weights",
    "__version__",
    "check_kernels",
    "compare",
    "compile",
    "devices",
    "explain",
    "extract",
    "load",
    "load_weights",
    "open_checkpoint",
    "partition",
    "quantize",
]

_MODULES = {
    "npu.comparison.api": ("compare",),
    "npu.comparison.report": ("Comparison",),
    "npu.compiled": ("compile",),
    "npu.compiled_module": ("CompiledModule", "load"),
    "npu.explanation": ("Explanation", "explain"),
    "npu.generation": ("Generation", "Generator", "Piece"),
    "npu.kernels": ("KernelReport", "check_kernels"),
    "npu.quantized.opening": ("open_checkpoint",),
    "npu.quantized.quantizing": ("quantize",),
    "npu.saving.predictor": ("Predictor",),
    "npu_compiler": ("partition",),
    "npu_runtime": (
        "DAGExecutor", "Device", "Executor", "NPUBuffer", "Profiler", "Session", "Weights", "devices", "load_weights",
    ),
}  # fmt: skip
_WHERE = {name: (module, name) for module, names in _MODULES.items() for name in names} | {
    "Buffer": ("npu_runtime", "NPUBuffer"),
    "extract": ("torch_ir", "extract_ir"),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'npu' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
