"""Execution functions by operator name: PyTorch's own, unless one was registered."""

from __future__ import annotations

from .registry import get_execution_fn, is_supported_op
from .schemas import resolve_op

__all__ = ["get_execution_fn", "is_supported_op", "resolve_op"]
