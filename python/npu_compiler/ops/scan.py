"""Running sums, products and extremes; logarithms of sums by doubling, in a logarithmic number of steps."""

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


def _running_best(b: Builder, x: View, dim: int, kind: str) -> list[View]:
    if not x.rank:
        return [x, b.full((), 0, "int64")]
    b.check_dtype(x)
    outs = [b.temp(x.shape, x.dtype), b.temp(x.shape, "int64")]
    b.emit("scan_extreme", [x], outs, kind=kind, axis=dim_of(dim, x.rank))
    return list(outs)


@lowering("aten.cummax.default")
def cummax(b: Builder, self: Tensor, dim: int) -> list[Tensor]:
    return _running_best(b, self, dim, "max")


@lowering("aten.cummin.default")
def cummin(b: Builder, self: Tensor, dim: int) -> list[Tensor]:
    return _running_best(b, self, dim, "min")


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
