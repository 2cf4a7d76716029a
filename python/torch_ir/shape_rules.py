"""The shapes that some operators give, where PyTorch's own meta functions take a millisecond or so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .ops.schemas import resolve_op
from .parts import OpNode

__all__ = ["shapes_given"]

Shape = tuple[int, ...]


def shapes_given(node: OpNode) -> list[Shape] | None:
    """The shapes of a node's results; None where no rule is sure, and PyTorch must tell."""
    inputs = [tuple(t.shape) for t in node.inputs]
    rule = _RULES.get(node.op_type)
    if rule is not None and inputs:
        shape = rule(inputs, node.attrs)
    else:
        shape = inputs[0] if _keeps_shape(node, inputs) else None
    return None if shape is None else [shape]


def _keeps_shape(node: OpNode, inputs: Sequence[Shape]) -> bool:
    """An elementwise operator of tensors of one shape."""
    op = resolve_op(node.op_type)
    if op is None or len(node.outputs) != 1 or len(set(inputs)) != 1:
        return False
    return torch.Tag.pointwise in op.tags and not op._schema.is_mutable


def _batch_norm(inputs: Sequence[Shape], attrs: dict[str, Any]) -> Shape | None:
    x, *vectors = inputs
    if attrs.get("training") is not False or len(x) < 2 or any(shape != (x[1],) for shape in vectors):
        return None
    return x


def _linear(inputs: Sequence[Shape], attrs: dict[str, Any]) -> Shape | None:
    x, weight, *bias = inputs
    if not x or len(weight) != 2 or x[-1] != weight[1] or any(shape != weight[:1] for shape in bias):
        return None
    return (*x[:-1], weight[0])


def _layer_norm(inputs: Sequence[Shape], attrs: dict[str, Any]) -> Shape | None:
    x, *rest = inputs
    wanted = tuple(attrs.get("normalized_shape") or ())
    if not wanted or x[-len(wanted) :] != wanted or any(shape != wanted for shape in rest):
        return None
    return x


_RULES: dict[str, Callable[[Sequence[Shape], dict[str, Any]], Shape | None]] = {
    "aten.batch_norm.default": _batch_norm,
    "aten.linear.default": _linear,
    "aten.layer_norm.default": _layer_norm,
}
