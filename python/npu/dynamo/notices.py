"""What the user is told about operators that run on the host."""

from __future__ import annotations

from typing import Any

from npu_base.errors import InvalidValueError, format_error

from npu.dynamo.options import Options
from npu.host_parts import HostWarning, host_nodes, host_warning, runs_on_host

__all__ = ["HostWarning", "parts_notice", "whole_graph_on_host"]


def _host_notice(what: str) -> None:
    advice = "options={'explain': True} shows all, 'fallback': 'error' forbids it"
    host_warning(f"torch.compile(backend='npu'): {what}. {advice}")


def parts_notice(plan: Any) -> None:
    if runs_on_host(plan):
        _host_notice(host_nodes(plan, "a graph"))


def whole_graph_on_host(options: Options, reason: str) -> None:
    """Says that a graph runs on the host as a whole, or raises if the options forbid that."""
    if options.fallback == "error":
        raise InvalidValueError(
            format_error(
                "torch.compile",
                "a graph cannot be compiled for the device",
                got=reason,
                action="options={'fallback': 'host'}",
            )
        )
    what = f"a graph runs on the host as a whole: {reason}"
    if options.explain:
        print(what)
    _host_notice(what)
