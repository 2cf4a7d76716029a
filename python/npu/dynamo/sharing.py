"""Which results of a graph share memory, and with which tensor of the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["drop_unread_views", "owners_of_shared", "view_of_memory"]


def owners_of_shared(graph: fx.Graph, results: Sequence[fx.Node]) -> tuple[dict[fx.Node, fx.Node], list[fx.Node]]:
    """For each result that shares memory with another one, the tensor whose elements are all of that memory.

    Also the results that share memory of which no tensor is all. AOTAutograd takes care of views of arguments, and
    with gradients of the other ones; without them it leaves those to the backend.
    """
    groups: dict[int, dict[fx.Node, None]] = {}
    for node in results:
        memory = _memory(node.meta.get("val"))
        if memory is not None:
            groups.setdefault(memory, {})[node] = None
    shared = {memory: group for memory, group in groups.items() if len(group) > 1}
    owners: dict[fx.Node, fx.Node] = {}
    without: list[fx.Node] = []
    for node in graph.nodes if shared else ():
        group = shared.pop(_memory(node.meta.get("val")), None)
        if group is None or node.op == "placeholder":
            continue
        if _owns_all(node.meta["val"]):
            owners.update(dict.fromkeys(group, node))
        else:
            without.extend(group)
    return owners, without


def drop_unread_views(graph: fx.Graph, owners: Iterable[fx.Node]) -> None:
    """Removes views of these tensors that only the results read, which are now made of the tensors themselves."""
    memories = {_memory(owner.meta["val"]) for owner in owners}
    for node in reversed(graph.nodes) if memories else ():
        value = node.meta.get("val")
        first = value[0] if isinstance(value, (list, tuple)) and value else value
        if node.op == "call_function" and not node.users and _memory(first) in memories:
            graph.erase_node(node)


def _memory(value: Any) -> Any:
    if not isinstance(value, Tensor) or value.layout is not torch.strided or not value.numel():
        return None
    return value.untyped_storage()._cdata


def _owns_all(value: Tensor) -> bool:
    is_whole = value.numel() * value.itemsize == value.untyped_storage().nbytes()
    is_dense = torch.ops.aten.is_non_overlapping_and_dense.default(value)
    return is_whole and bool(is_dense) and not (value.is_conj() or value.is_neg())


def view_of_memory(node: fx.Node) -> Callable[[Tensor], Tensor]:
    """What makes a result of a tensor that has its memory in row-major order."""
    fake = node.meta["val"]
    shape, strides, offset, dtype = tuple(fake.shape), tuple(fake.stride()), fake.storage_offset(), fake.dtype
    is_conj, is_neg = fake.is_conj(), fake.is_neg()

    def view(memory: Tensor) -> Tensor:
        if memory.dtype != dtype:
            memory = memory.view(-1).view(dtype)
        result = memory.as_strided(shape, strides, memory.storage_offset() + offset)
        result = result.conj() if is_conj else result
        return torch._neg_view(result) if is_neg else result

    return view
