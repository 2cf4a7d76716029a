"""Order statistics, which sort and then select elements."""

from __future__ import annotations

from typing import Any

from ..errors import Refused, Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, Tensor, dim_of, lowering
from .reduce import _arg, reduced
from .sort import _sorted, topk

_FEW = 16  # elements that are found faster than all are sorted


def _at(b: Builder, x: View, dim: int, index: View) -> View:
    """One element of every row of x, by an int64 index of extent 1 along ``dim``."""
    dims = [-1 if d == dim else d for d in range(x.rank)]
    return b.new("gather", [x, index], index.shape, x.dtype, axes=[dim], dims=dims)


def _seen(x: View, dim: int | None) -> tuple[View | None, int]:
    d = 0 if dim is None else dim_of(dim, x.rank)
    if x.rank and not x.shape[d]:
        raise Unsupported("the middle of no elements")
    return x, d


def _kept(x: View, dim: int, keepdim: bool) -> View:
    return x if keepdim else x.drop(dim)


def _median(b: Builder, x: View, dim: int, keepdim: bool, skip_nan: bool) -> list[View]:
    if not x.rank:
        return [x, b.full((), 0, "int64")]
    d = dim_of(dim, x.rank)
    if not x.shape[d]:
        raise Unsupported("the median of no elements")
    values, indices = _sorted(b, x, d, False)
    middle, last = (x.shape[d] - 1) // 2, x.shape[d] - 1
    if class_of(x.dtype) != "f":
        return [_kept(t.slice(d, middle, 1), d, keepdim) for t in (values, indices)]
    if skip_nan:
        numbers = reduced(b, b.map("x == x", "bool", x=x), "sum", [d], "int64")
        at = b.map("max((n - 1) // 2, 0)", "int64", n=numbers)
        return [_kept(_at(b, t, d, at), d, keepdim) for t in (values, indices)]
    top, first = values.slice(d, last, 1), _arg(b, x, "argmax", d, True)  # NaN is sorted last, and wins an argmax
    value = b.map("top if top != top else v", x.dtype, top=top, v=values.slice(d, middle, 1))
    index = b.map("first if top != top else at", "int64", top=top, first=first, at=indices.slice(d, middle, 1))
    return [_kept(value, d, keepdim), _kept(index, d, keepdim)]


@lowering("aten.median.dim")
def median_dim(b: Builder, self: Tensor, dim: int, keepdim: bool = False) -> list[Tensor]:
    return _median(b, self, dim, keepdim, False)


@lowering("aten.nanmedian.dim")
def nanmedian_dim(b: Builder, self: Tensor, dim: int, keepdim: bool = False) -> list[Tensor]:
    return _median(b, self, dim, keepdim, True)


@lowering("aten.median.default")
def median(b: Builder, self: Tensor) -> Tensor:
    return _median(b, b.reshape(self, (self.elements,)), 0, False, False)[0]


@lowering("aten.nanmedian.default")
def nanmedian(b: Builder, self: Tensor) -> Tensor:
    return _median(b, b.reshape(self, (self.elements,)), 0, False, True)[0]


@lowering("aten.kthvalue.default")
def kthvalue(b: Builder, self: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> list[Tensor]:
    if not self.rank:
        return [self, b.full((), 0, "int64")]
    d = dim_of(dim, self.rank)
    if not 1 <= k <= self.shape[d]:
        raise Unsupported(f"number {k} of {self.shape[d]}")
    first = topk(b, self, k, d, largest=False) if k <= _FEW else _sorted(b, self, d, False)
    return [_kept(t.slice(d, k - 1, 1), d, keepdim) for t in first]


_BETWEEN = {
    "linear": "low + (high - low) * t if t < 0.5 else high - (high - low) * (1 - t)",
    "lower": "low", "higher": "high", "midpoint": "low + (high - low) * 0.5",
}  # fmt: skip


@lowering("aten.quantile.scalar")
def quantile(
    b: Builder, self: Tensor, q: float, dim: int | None = None, keepdim: bool = False, interpolation: str = "linear"
) -> Tensor:
    if interpolation not in _BETWEEN:
        raise Refused(f"interpolation {interpolation!r}")
    if class_of(self.dtype) != "f" or not 0 <= q <= 1 or not self.elements:
        raise Unsupported(f"the quantile {q} of {self.dtype}{list(self.shape)}")
    x = b.reshape(self, (self.elements,)) if dim is None or not self.rank else self
    d = 0 if dim is None else dim_of(dim, x.rank)
    values, last = _sorted(b, x, d, False)[0], x.shape[d] - 1
    low = int(q * last)
    ends: dict[str, Any] = {
        "low": values.slice(d, low, 1),
        "high": values.slice(d, min(low + 1, last) if q * last > low else low, 1),
    }
    used = {k: v for k, v in ends.items() if k in _BETWEEN[interpolation]}
    out = b.map(f"top if top != top else {_BETWEEN[interpolation]}", x.dtype, top=values.slice(d, last, 1),
                t=b.full((), q * last - low, x.dtype), **used)  # fmt: skip
    if dim is None or not self.rank:
        return b.reshape(out, [1] * self.rank if keepdim else [])
    return _kept(out, d, keepdim)
