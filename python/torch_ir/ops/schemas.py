"""Operator schemas by the IR's names (``aten.add.Tensor``), resolved once per name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

_KINDS = {
    "ScalarType": "dtype",
    "Device": "device",
    "Layout": "layout",
    "MemoryFormat": "memory_format",
}


@dataclass(frozen=True)
class Argument:
    """One argument of a schema. ``kind``: tensor, tensors (a list), dtype, device, layout, memory_format or value."""

    name: str
    kind: str
    optional: bool
    kwarg_only: bool
    has_default: bool
    default: Any


def resolve_op(op_type: str) -> Any | None:
    """The ``OpOverload`` of ``<namespace>.<op>.<overload>``, or None."""
    overload = _resolved.get(op_type) or _look_up(op_type)
    if overload is not None:  # only existing operators are cached, because a library may be loaded later
        _resolved[op_type] = overload
    return overload


_resolved: dict[str, Any] = {}


def _look_up(op_type: str) -> Any | None:
    parts = op_type.split(".")
    if len(parts) == 2:
        parts.append("default")
    if len(parts) != 3 or not all(p.isidentifier() for p in parts):
        return None
    namespace, name, overload = parts
    packet = getattr(getattr(torch.ops, namespace, None), name, None)
    resolved = getattr(packet, overload, None) if packet is not None else None
    return resolved if isinstance(resolved, torch._ops.OpOverload) else None


def type_str(argument: torch._C.Argument) -> str:
    # type is "int" for ScalarType, Layout and MemoryFormat; real_type distinguishes them.
    return str(argument.real_type)


def _kind(argument: torch._C.Argument) -> str:
    base = type_str(argument)
    inner = base.removeprefix("Optional[").removesuffix("]") if base.startswith("Optional[") else base
    if inner == "Tensor":
        return "tensor"
    if inner in ("List[Tensor]", "List[Optional[Tensor]]"):
        return "tensors"
    return _KINDS.get(inner, "value")


@cache
def arguments_of(op: Any) -> tuple[Argument, ...]:
    return tuple(
        Argument(
            a.name,
            _kind(a),
            type_str(a).startswith("Optional["),
            a.kwarg_only,
            a.has_default_value(),
            a.default_value if a.has_default_value() else None,
        )
        for a in op._schema.arguments
    )


def argument_kind(op_type: str, name: str) -> str | None:
    op = resolve_op(op_type)
    if op is None:
        return None
    return _kinds_of(op).get(name)


@cache
def _kinds_of(op: Any) -> dict[str, str]:
    return {a.name: a.kind for a in arguments_of(op)}
