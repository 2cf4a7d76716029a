"""Cumulative sums and products."""

from __future__ import annotations

from ..graph import View
from ..lowering import Builder, DType, Tensor, dim_of, lowering
from .reduce import _wide


def _scan(b: Builder, x: View, kind: str, dim: int, dtype: str | None) -> View:
    x = b.cast(x, dtype) if dtype else x
    b.check_dtype(x)
    if not x.rank:
        return b.cast(x, dtype or _wide(x.dtype))
    out = b.new("scan", [x], x.shape, _wide(x.dtype), kind=kind, axis=dim_of(dim, x.rank))
    return b.cast(out, dtype or out.dtype)


@lowering("aten.cumsum.default")
def cumsum(b: Builder, self: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    return _scan(b, self, "sum", dim, dtype)


@lowering("aten.cumprod.default")
def cumprod(b: Builder, self: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    return _scan(b, self, "prod", dim, dtype)
