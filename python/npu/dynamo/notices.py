"""What the user is told about operators that run on the host."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

from npu_base.errors import InvalidValueError, NPUWarning, format_error

from npu.dynamo.options import Options

__all__ = ["HostWarning", "host_notice", "parts_notice", "refuse_host"]


class HostWarning(NPUWarning):
    """Operators of a compiled graph run on the host."""


def host_notice(what: str) -> None:
    warnings.warn(
        f"torch.compile(backend='npu'): {what}. options={{'explain': True}} shows all, 'fallback': 'error' forbids it",
        HostWarning,
        stacklevel=2,
    )


def parts_notice(plan: Any) -> None:
    host = Counter(
        node["op_type"].removeprefix("aten.")
        for step in plan.steps
        if getattr(step, "target", None) == "cpu"
        for node in step.nodes
    )
    nodes = len(plan.original_ir["nodes"])
    named = ", ".join(f"{op} x{n}" if n > 1 else op for op, n in host.most_common(4))
    more = f" and {len(host) - 4} more" if len(host) > 4 else ""
    host_notice(f"{host.total()} of {nodes} nodes of a graph run on the host: {named}{more}")


def refuse_host(options: Options, reason: str) -> None:
    """Raises if the options forbid that a whole graph runs on the host."""
    if options.fallback == "error":
        raise InvalidValueError(
            format_error(
                "torch.compile",
                "a graph cannot be compiled for the device",
                got=reason,
                action="options={'fallback': 'host'}",
            )
        )
