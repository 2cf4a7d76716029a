"""The nodes that do not compile, grouped by reason, as every report shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .reader import Node

__all__ = ["HOST_ADVICE", "Refusal", "located", "refusals"]

HOST_ADVICE = "npu_compiler.partition and npu_runtime.DAGExecutor run such nodes on the host, and the rest as programs"


@dataclass(frozen=True)
class Refusal:
    """The nodes of one operator that do not compile, or run on the host, for the same reason. ``node`` is the first of
    them, and ``module`` and ``source`` say where it comes from."""

    op: str
    count: int
    reason: str
    node: str
    module: str | None = None
    source: str | None = None

    def __str__(self) -> str:
        where = located(self.node, self.module, self.source)
        return f"{self.op}, {self.count} times: {self.reason}; first at {where}"


def located(node: str, module: str | None, source: str | None) -> str:
    """A node as messages name it, with its module and its line in the model's source."""
    return f"'{node}'" + (f" in {module}" if module else "") + (f" ({source})" if source else "")


def refusals(nodes: Iterable[tuple[Node | Mapping[str, Any], str | None]]) -> list[Refusal]:
    """Groups nodes by operator and reason (None if a node compiles), in the order of the first node of each group."""
    groups: dict[tuple[str, str], Refusal] = {}
    for node, reason in nodes:
        if reason is None:
            continue
        one = _refusal(node, reason)
        known = groups.get((one.op, reason))
        groups[one.op, reason] = one if known is None else replace(known, count=known.count + 1)
    return list(groups.values())


def _refusal(node: Node | Mapping[str, Any], reason: str) -> Refusal:
    if isinstance(node, Node):
        return Refusal(node.op_type, 1, reason, node.name, node.module or None, node.source or None)
    return Refusal(node["op_type"], 1, reason, node["name"], node.get("module_path"), node.get("source"))
