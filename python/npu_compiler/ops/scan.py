"""Cumulative sums and products. Other running values are computed by doubling, in a logarithmic number of steps."""

from __future__ import annotations

from ..errors import Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, DType, Tensor, dim_of, lowering
from .cat import concatenate
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


def _running_best(b: Builder, x: View, dim: int, sign: str) -> list[View]:
    """Of equal elements the last one counts, and of NaNs the last one, as in PyTorch."""
    if not x.rank:
        return [x, b.full((), 0, "int64")]
    b.check_dtype(x)
    if x.dtype == "bool":
        raise Unsupported("cumulative minima or maxima of bools")
    d = dim_of(dim, x.rank)
    n, step, index = x.shape[d], 1, b.iota(x.shape[d])
    for _ in range(x.rank - 1 - d):
        index = index.unsqueeze(index.rank)
    index = index.expand(x.shape)
    later = f"new {sign} old"
    if class_of(x.dtype) == "f":
        later = f"(isnan(new) or (not isnan(old) and {later}))"
    while step < n:
        old, new = x.slice(d, 0, n - step), x.slice(d, step, n - step)
        was, now = index.slice(d, 0, n - step), index.slice(d, step, n - step)
        values = b.map(f"new if {later} else old", x.dtype, old=old, new=new)
        indices = b.map(f"now if {later} else was", "int64", old=old, new=new, was=was, now=now)
        x = concatenate(b, [x.slice(d, 0, step), values], d)
        index = concatenate(b, [index.slice(d, 0, step), indices], d)
        step *= 2
    return [x, index]


@lowering("aten.cummax.default")
def cummax(b: Builder, self: Tensor, dim: int) -> list[Tensor]:
    return _running_best(b, self, dim, ">=")


@lowering("aten.cummin.default")
def cummin(b: Builder, self: Tensor, dim: int) -> list[Tensor]:
    return _running_best(b, self, dim, "<=")


@lowering("aten.logcumsumexp.default", "aten._logcumsumexp.default")
def logcumsumexp(b: Builder, self: Tensor, dim: int) -> Tensor:
    if class_of(self.dtype) != "f":
        raise Unsupported(f"logarithms of {self.dtype}")
    if not self.rank:
        return self
    x, d, step = b.cast(self, "float32"), dim_of(dim, self.rank), 1
    n = x.shape[d]
    while step < n:
        old, new = x.slice(d, 0, n - step), x.slice(d, step, n - step)
        text = "max(old, new) if old == new and isinf(old) else max(old, new) + log1p(exp(-abs(old - new)))"
        x = concatenate(b, [x.slice(d, 0, step), b.map(text, "float32", old=old, new=new)], d)
        step *= 2
    return b.cast(x, self.dtype)
