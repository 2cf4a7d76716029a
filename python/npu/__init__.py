"""The front door: a PyTorch module in, a compiled callable out. ``import npu`` does not import PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from npu_runtime import __version__

if TYPE_CHECKING:
    from npu.compiled import CompiledModule, compile

__all__ = ["CompiledModule", "__version__", "compile"]


def __getattr__(name: str) -> Any:
    if name in ("CompiledModule", "compile"):
        from npu import compiled

        return getattr(compiled, name)
    raise AttributeError(f"module 'npu' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "CompiledModule", "compile"])
