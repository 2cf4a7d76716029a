"""What ``npu.compile`` and ``torch.compile`` share about models that run partly on the host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from npu_base.errors import NPUWarning

__all__ = ["FALLBACKS", "HostWarning", "host_nodes", "strategy_of"]

FALLBACKS = ("host", "error")


class HostWarning(NPUWarning):
    """Operators of a compiled model or graph run on the host."""


def host_nodes(plan: Any, whole: str) -> str:
    host = Counter(
        node["op_type"].removeprefix("aten.")
        for step in plan.steps
        if getattr(step, "target", None) == "cpu"
        for node in step.nodes
    )
    nodes = len(plan.original_ir["nodes"])
    named = ", ".join(f"{op} x{n}" if n > 1 else op for op, n in host.most_common(4))
    more = f" and {len(host) - 4} more" if len(host) > 4 else ""
    return f"{host.total()} of {nodes} nodes of {whole} run on the host: {named}{more}"


def strategy_of(ir: Mapping[str, Any]) -> str:
    """Random operators must run in the order in which PyTorch would draw."""
    import torch
    from torch_ir.ops.schemas import resolve_op

    ops = [resolve_op(node["op_type"]) for node in ir["nodes"]]
    is_random = any(op is not None and torch.Tag.nondeterministic_seeded in op.tags for op in ops)
    return "sequential" if is_random else "cost"
