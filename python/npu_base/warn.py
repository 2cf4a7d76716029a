"""Warnings that point at the user's own line."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

__all__ = ["warn_user"]

_OURS = frozenset(("npu", "npu_base", "npu_compiler", "npu_runtime", "torch_ir", "torch"))


def warn_user(text: str, category: type[Warning]) -> None:
    """Warn at the line outside of our packages and PyTorch. Python shows a warning once for each line and text; each
    model says it once."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame):
        frame = frame.f_back
    warnings.warn_explicit(text, category, frame.f_code.co_filename, frame.f_lineno)


def _is_inside(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _OURS
