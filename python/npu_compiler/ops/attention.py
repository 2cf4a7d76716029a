"""Scaled dot-product attention. Keys and values that heads share are not repeated."""

from __future__ import annotations

import math

from ..errors import Refused, Unsupported
from ..exprs import class_of
from ..graph import View, whole
from ..lowering import Builder, Tensor, broadcast, lowering


def _shared_heads(b: Builder, k: View) -> View | None:
    """[N, H, T, D] as [N, G, T, D], if it is a copy that only repeats each of G heads."""
    source = b.copies.get(k.value)
    if source is None or source.rank != 5 or source.strides[2] != 0 or k.rank != 4:
        return None
    n, groups, times, t, d = source.shape
    if k.shape != (n, groups * times, t, d) or not k.is_dense:
        return None
    return source.slice(2, 0, 1).drop(2)


def _keys_and_values(b: Builder, k: View, v: View, heads: int, enable_gqa: bool) -> tuple[View, View]:
    """Both with the same number of heads, which divides the number of query heads."""
    shared = _shared_heads(b, k), _shared_heads(b, v)
    if shared[0] is not None and shared[1] is not None and shared[0].shape[1] == shared[1].shape[1]:
        return shared[0], shared[1]
    if enable_gqa and k.shape[1] != v.shape[1]:
        raise Unsupported("grouped attention with different numbers of key and value heads")
    if k.shape[1] == v.shape[1] and heads % max(k.shape[1], 1) == 0 and k.shape[1] > 0:
        return k, v
    return k.expand((k.shape[0], heads, *k.shape[2:])), v.expand((v.shape[0], heads, *v.shape[2:]))


def _in_rank_4(b: Builder, x: View, lead: tuple[int, ...]) -> View:
    """Merges the dimensions before the heads. If there is no dimension of heads, adds one."""
    x = x.expand((*lead, *x.shape[-3:])) if x.rank > 3 else x
    while x.rank < 4:
        x = x.unsqueeze(0)
    if x.rank == 4:
        return x
    return b.reshape(x, (math.prod(x.shape[:-3]), *x.shape[-3:]))


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
    if min(query.rank, key.rank, value.rank) < 2:
        raise Unsupported(f"attention of ranks {query.rank}, {key.rank} and {value.rank}")
    if class_of(query.dtype) != "f" or key.dtype != query.dtype or value.dtype != query.dtype:
        raise Unsupported(f"attention of {query.dtype}, {key.dtype} and {value.dtype}")
    if attn_mask is not None and is_causal:
        raise Unsupported("attention that is causal and has a mask")
    heads = () if enable_gqa else broadcast(key.shape[-3:-2], value.shape[-3:-2])
    lead = broadcast(query.shape[:-3], key.shape[:-3], value.shape[:-3])
    shape = (*lead, *broadcast(heads, query.shape[-3:-2]), query.shape[-2], value.shape[-1])
    if query.rank > 2 and len(shape) > 2:
        query = query.expand((*query.shape[:-3], shape[-3], *query.shape[-2:]))
    k, v = (_in_rank_4(b, x, lead) for x in (key, value))
    q = _in_rank_4(b, query.expand((*shape[:-1], query.shape[-1])), lead)
    k, v = _keys_and_values(b, k, v, q.shape[1], enable_gqa)
    k, v = (x.expand((q.shape[0], *x.shape[1:])) for x in (k, v))
    mask = None if attn_mask is None else _mask(b, attn_mask, (*shape[:-1], k.shape[2]), lead, q.dtype)
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None and q.shape[-1] else float(scale or 0)
    return b.reshape(attended(b, q, k, v, mask, factor, is_causal), shape)


def _mask(b: Builder, mask: View, shape: tuple[int, ...], lead: tuple[int, ...], dtype: str) -> View:
    if mask.dtype not in ("bool", "float32", dtype):
        raise Unsupported(f"a mask of {mask.dtype} for {dtype}")
    return _in_rank_4(b, mask.expand(shape), lead)


def attended(b: Builder, q: View, k: View, v: View, mask: View | None, scale: float, causal: bool) -> View:
    """Adds the op. In memory, the heads of a position are side by side, as the product after it reads them."""
    n, heads, rows, _ = q.shape
    out = whole(b.graph.temp(b.base, q.dtype, (n, rows, heads, v.shape[3]))).permute((0, 2, 1, 3))
    inputs = [q, k, v] if mask is None else [q, k, v, mask]
    b.emit("attention", inputs, [out], scale=scale, causal=causal)
    return out
