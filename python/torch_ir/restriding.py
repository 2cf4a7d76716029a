"""``as_strided`` speaks of memory, of which an IR says nothing: its operand is made row-major first."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, fx

from .errors import ConversionError

__all__ = ["make_operands_row_major"]

_aten = torch.ops.aten
_OPERATORS = (_aten.as_strided.default, _aten.as_strided_copy.default, _aten.as_strided_scatter.default)


def make_operands_row_major(module: torch.nn.Module) -> None:
    """Rewrites these calls in a traced module and its parts, so that strides and offset are those of an operand in
    row-major order. What reads memory beside its operand, or an operand with gaps, is refused."""
    for part in module.modules():
        if isinstance(part, fx.GraphModule):
            for target in _OPERATORS:
                for node in part.graph.find_nodes(op="call_function", target=target):
                    _rewrite(part.graph, node)


def _rewrite(graph: fx.Graph, node: fx.Node) -> None:
    operand, target = node.args[0], cast(Any, node.target)
    if not isinstance(operand, fx.Node) or not isinstance(x := operand.meta.get("val"), Tensor):
        return
    if any(not isinstance(n, int) for n in (*x.shape, *x.stride())):
        if not x.is_contiguous():
            _refuse(node, "its operand has open sizes, and is not row-major")
        return
    scatters = node.target is _aten.as_strided_scatter.default
    first = 2 if scatters else 1
    names = ("size", "stride", "storage_offset")
    given: list[Any] = [
        *node.args[first:],
        *(node.kwargs[n] for n in names[len(node.args) - first :] if n in node.kwargs),
    ]
    size, stride, at = [*given, None][:3]
    start = x.storage_offset() if at is None else at
    if not isinstance(start, int) or not all(isinstance(n, int) for n in (*size, *stride)):
        return  # sizes that depend on data are refused elsewhere
    offset = start - x.storage_offset()
    strides = list(x.stride())
    order = sorted(range(x.dim()), key=lambda d: (-strides[d], d))
    if not x.permute(order).is_contiguous():
        _refuse(node, f"its operand has strides {strides} for {list(x.shape)}, with gaps or repetitions")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if all(size) else offset
    if offset < 0 or (all(size) and last >= x.numel()):
        _refuse(node, "it reads memory beside its operand, which is a part of another tensor")
    if order == list(range(x.dim())) and offset == start:
        return
    with graph.inserting_before(node):
        row_major = _row_major(graph, operand, order, node)
        source = [node.args[1]] if scatters else []
        new = graph.call_function(target, (row_major, *source, size, stride, offset))
        new.meta = dict(node.meta)
        if scatters:
            back = [order.index(d) for d in range(x.dim())]
            new.meta["val"] = row_major.meta["val"].clone()
            new = _call(graph, _aten.permute.default, (new, back), node, new.meta["val"].permute(back))
    node.replace_all_uses_with(new)
    graph.erase_node(node)


def _row_major(graph: fx.Graph, operand: fx.Node, order: list[int], node: fx.Node) -> fx.Node:
    permuted = operand.meta["val"].permute(order)
    moved = _call(graph, _aten.permute.default, (operand, order), node, permuted)
    copy = permuted.clone(memory_format=torch.contiguous_format)
    made = _call(graph, _aten.clone.default, (moved,), node, copy)
    made.kwargs = {"memory_format": torch.contiguous_format}
    return made


def _call(graph: fx.Graph, target: Any, args: tuple[Any, ...], like: fx.Node, value: Tensor) -> fx.Node:
    made = graph.call_function(target, args)
    made.meta = {**like.meta, "val": value}
    return made


def _refuse(node: fx.Node, why: str) -> None:
    raise ConversionError(
        f"Failed to convert node '{node.name}' (op: {node.target}): {why}; the result depends on where tensors lie in "
        f"memory, which an IR does not say. Use slices, unfold or gather instead"
    )
