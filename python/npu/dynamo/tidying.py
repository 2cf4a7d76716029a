"""Undoes in a graph of ATen calls what PyTorch chose for its own kernels."""

from __future__ import annotations

import operator

import torch
from torch import fx

__all__ = ["tidy"]

_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


def tidy(graph: fx.Graph) -> None:
    _join_attention(graph)
    _drop_restriding(graph)


def _join_attention(graph: fx.Graph) -> None:
    """Replaces the kernel that PyTorch chose for an attention by the operator that the model called."""
    for node in graph.find_nodes(op="call_function", target=_FLASH):
        results = [user for user in node.users if user.target is operator.getitem]
        if any(user.args[1] != 0 for user in results) or len(results) != len(node.users):
            continue  # its second result is for gradients
        q, k, v, *rest = list(node.args)
        dropout, causal = (rest + [0.0, False][len(rest) :])[:2]
        mask, scale = node.kwargs.get("attn_mask"), node.kwargs.get("scale")
        with graph.inserting_before(node):
            joined = graph.call_function(
                torch.ops.aten.scaled_dot_product_attention.default,
                (q, k, v, mask, dropout, causal),
                {} if scale is None else {"scale": scale},
            )
        for user in results:
            joined.meta = {**node.meta, **user.meta}
            user.replace_all_uses_with(joined)
            graph.erase_node(user)
        graph.erase_node(node)


def _drop_restriding(graph: fx.Graph) -> None:
    """Pooling of channels-last images sets the strides of axes of extent 1, which moves no element."""
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.as_strided.default):
        given, made = node.args[0].meta["val"], node.meta["val"]
        axes = [i for i, extent in enumerate(made.shape) if extent != 1]
        if (
            given.shape == made.shape
            and given.storage_offset() == made.storage_offset()
            and all(given.stride(i) == made.stride(i) for i in axes)
        ):
            node.target = torch.ops.aten.view.default
            node.args, node.kwargs = (node.args[0], list(made.shape)), {}
