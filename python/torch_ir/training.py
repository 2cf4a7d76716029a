"""Recognises graphs of models in training mode."""

from __future__ import annotations

from typing import Any

from .ops.schemas import arguments_of, resolve_op
from .parts import OpNode

_DROPOUTS = ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout", "native_dropout")
_RNNS = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def training_reason(node: OpNode) -> str | None:
    """Why the node is only valid in training, or None."""
    parts = node.op_type.split(".")
    if len(parts) != 3 or parts[0] != "aten":
        return None
    name = parts[1].rstrip("_")
    if name in _DROPOUTS and _attr(node, "train") and _attr(node, "p"):
        return f"dropout with p={_attr(node, 'p')} is active"
    if name in _RNNS and _attr(node, "train") and _attr(node, "dropout"):
        return f"dropout with p={_attr(node, 'dropout')} between its layers is active"
    if name == "scaled_dot_product_attention" and _attr(node, "dropout_p"):
        return f"attention dropout with p={_attr(node, 'dropout_p')} is active"
    if name == "rrelu" and _attr(node, "training"):
        return "its slopes are random"
    # Without running statistics, a batch norm uses those of the batch in evaluation too.
    if name in ("batch_norm", "native_batch_norm", "_native_batch_norm_legit"):
        has_statistics = "running_mean" not in node.absent_inputs and len(node.inputs) >= 3
        if _attr(node, "training") and has_statistics:
            return "batch norm updates its running statistics"
    return None


def _attr(node: OpNode, name: str) -> Any:
    if name in node.attrs:
        return node.attrs[name]
    op = resolve_op(node.op_type)
    arguments = arguments_of(op) if op is not None else ()
    return next((a.default for a in arguments if a.name == name), None)
