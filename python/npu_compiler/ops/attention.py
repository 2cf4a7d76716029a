"""Scaled dot-product attention as products and a softmax; grouped heads are read without repeating them."""

from __future__ import annotations

import math

from ..errors import Refused, Unsupported
from ..graph import View
from ..lowering import Builder, Tensor, broadcast, lowering
from .map import select
from .matmul import product
from .reduce import reduced
from .softmax import along


def _group(b: Builder, k: View) -> View | None:
    """[B, H, S, E] as [B, KV, 1, S, E], where it is a copy that only repeats each of KV heads."""
    source = b.copies.get(k.value)
    if source is None or source.rank != 5 or source.strides[2] != 0 or k.rank != 4:
        return None
    n, kv, g, s, e = source.shape
    if k.shape != (n, kv * g, s, e) or not k.is_dense:
        return None
    return source.slice(2, 0, 1)


@lowering("aten.scaled_dot_product_attention.default")
def attention(
    b: Builder,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if dropout_p:
        raise Refused("attention with dropout")
    if query.rank < 2:
        raise Unsupported(f"attention of rank {query.rank}")
    q, k, v, mask = query, key, value, attn_mask
    shape = (*broadcast(*(() if enable_gqa else (k.shape[:-2],)), q.shape[:-2]), q.shape[-2], v.shape[-1])
    grouped = [_group(b, t) for t in (k, v)]
    if enable_gqa and q.rank == 4 and k.shape[1] != q.shape[1]:
        if k.shape[1] != v.shape[1]:
            raise Unsupported("grouped attention with different numbers of key and value heads")
        k, v = k.unsqueeze(2), v.unsqueeze(2)
    elif (
        grouped[0] is not None
        and grouped[1] is not None
        and grouped[0].shape[:3] == grouped[1].shape[:3]
        and q.rank == 4
    ):
        k, v = grouped[0], grouped[1]
    if k.rank == 5 and q.rank == 4:
        heads = (k.shape[1], q.shape[1] // k.shape[1])
        q = b.reshape(q, (q.shape[0], *heads, *q.shape[2:]))
        if mask is not None and mask.rank >= 3:
            lead = mask if mask.rank == 4 else mask.unsqueeze(0)
            mask = (
                b.reshape(lead, (lead.shape[0], *heads, *lead.shape[2:])) if lead.shape[1] != 1 else lead.unsqueeze(2)
            )
    scores = product(b, q, k.transpose(k.rank - 2, k.rank - 1))
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    scores = b.map("x * factor", scores.dtype, x=scores, factor=factor)
    if is_causal:
        if mask is not None:
            raise Unsupported("attention that is causal and has a mask")
        rows, columns = b.iota(scores.shape[-2]).unsqueeze(1), b.iota(scores.shape[-1])
        seen = b.map("row >= column", "bool", row=rows, column=columns)
        scores = select(b, seen.expand(scores.shape), scores, -math.inf, scores.dtype)
    elif mask is not None and mask.dtype == "bool":
        scores = select(b, mask.expand(scores.shape), scores, -math.inf, scores.dtype)
    elif mask is not None:
        scores = b.map("x + mask", scores.dtype, x=scores, mask=mask)
    weights = along(b, scores, -1, None, False)
    if mask is not None:  # rows that see nothing give zeros, as in PyTorch
        peak = reduced(b, scores, "max", [scores.rank - 1], scores.dtype)
        weights = b.map("0.0 if peak == low else w", weights.dtype, w=weights, peak=peak, low=-math.inf)
    return b.reshape(product(b, weights, v), shape)
