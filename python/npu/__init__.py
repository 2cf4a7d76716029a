"""Compiles a PyTorch module into a callable, and generates text. ``import npu`` does not import PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from npu_runtime import NPUError, __version__

if TYPE_CHECKING:
    from npu.comparison.api import compare
    from npu.comparison.report import Comparison
    from npu.compiled import CompiledModule, compile
    from npu.generation import Generation, Generator, Piece
    from npu.kernels import KernelReport, check_kernels

__all__ = [
    "Comparison",
    "CompiledModule",
    "Generation",
    "Generator",
    "KernelReport",
    "NPUError",
    "Piece",
    "__version__",
    "check_kernels",
    "compare",
    "compile",
]


def __getattr__(name: str) -> Any:
    if name in ("CompiledModule", "compile"):
        from npu import compiled

        return getattr(compiled, name)
    if name == "compare":
        from npu.comparison.api import compare

        return compare
    if name == "Comparison":
        from npu.comparison.report import Comparison

        return Comparison
    if name in ("Generation", "Generator", "Piece"):
        from npu import generation

        return getattr(generation, name)
    if name in ("KernelReport", "check_kernels"):
        from npu import kernels

        return getattr(kernels, name)
    raise AttributeError(f"module 'npu' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
