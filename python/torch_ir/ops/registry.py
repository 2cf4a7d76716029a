"""Registers how calls of custom operators are converted to IR and executed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from npu_base.errors import InvalidValueError

from .schemas import resolve_op

_Fn = TypeVar("_Fn", bound=Callable[..., Any])

_conversion: dict[str, Callable[..., Any]] = {}
_execution: dict[str, Callable[..., Any]] = {}


def register_op(op_pattern: str) -> Callable[[_Fn], _Fn]:
    """Decorator: ``f(node_info) -> OpNode`` converts calls of this op.

    The pattern is an exact overload (``mylib.scale.default``) or, for all overloads, the name without one.
    """
    return _register(_conversion, op_pattern)


def register_executor(op_pattern: str) -> Callable[[_Fn], _Fn]:
    """Decorator: ``f(inputs, attrs) -> list of tensors`` executes this op instead of PyTorch."""
    return _register(_execution, op_pattern)


def _register(table: dict[str, Callable[..., Any]], pattern: str) -> Callable[[_Fn], _Fn]:
    if not isinstance(pattern, str) or not pattern:
        raise InvalidValueError(f"op_pattern must be a non-empty string, got {pattern!r}")

    def decorate(fn: _Fn) -> _Fn:
        table[pattern] = fn
        return fn

    return decorate


def get_conversion_fn(op_type: str) -> Callable[..., Any] | None:
    return _lookup(_conversion, op_type)


def get_execution_fn(op_type: str) -> Callable[..., Any] | None:
    return _lookup(_execution, op_type)


def _lookup(table: dict[str, Callable[..., Any]], op_type: str) -> Callable[..., Any] | None:
    """The function for the exact overload, or else for the base name registered without an overload."""
    if op_type in table:
        return table[op_type]
    parts = op_type.split(".")
    return table.get(".".join(parts[:2])) if len(parts) == 3 else None


def list_registered_ops() -> dict[str, list[str]]:
    """The operators with a conversion or an executor of your own, by kind."""
    return {"conversion": sorted(_conversion), "execution": sorted(_execution)}


def is_supported_op(op: Any) -> bool:
    """Whether this op can be executed, by PyTorch or by a registered executor."""
    op_type = str(op)
    return op_type == "<built-in function getitem>" or bool(get_execution_fn(op_type) or resolve_op(op_type))


def clear_registry() -> None:
    """Forget every custom operator."""
    _conversion.clear()
    _execution.clear()
    _register_builtins()


def _register_builtins() -> None:
    _execution["<built-in function getitem>"] = lambda inputs, attrs: [inputs[attrs["index"]]]


_register_builtins()
