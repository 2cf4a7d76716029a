"""Execution functions by operator name: a registered one, or PyTorch's own."""

from __future__ import annotations

from .registry import get_execution_fn, is_supported_op
from .schemas import resolve_op

__all__ = ["get_execution_fn", "is_supported_op", "resolve_op"]
