"""Operators: names, schemas, and the registry of custom ones."""

from __future__ import annotations

from . import aten_impl, aten_ops
from .registry import (
    clear_registry,
    get_conversion_fn,
    get_execution_fn,
    is_supported_op,
    list_registered_ops,
    register_executor,
    register_op,
)

__all__ = [
    "aten_impl",
    "aten_ops",
    "clear_registry",
    "get_conversion_fn",
    "get_execution_fn",
    "is_supported_op",
    "list_registered_ops",
    "register_executor",
    "register_op",
]
