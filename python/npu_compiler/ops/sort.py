"""Sorting and the k largest."""

from __future__ import annotations

from ..errors import Unsupported
from ..graph import View
from ..lowering import Builder, Tensor, dim_of, lowering


def _sorted(b: Builder, x: View, dim: int, descending: bool) -> list[View]:
    b.check_dtype(x)
    if not x.rank:
        return [x, b.full((), 0, "int64")]
    outs = [b.temp(x.shape, x.dtype), b.temp(x.shape, "int64")]
    b.emit("sort", [x], outs, axis=dim_of(dim, x.rank), descending=descending)
    return list(outs)


@lowering("aten.sort.default", "aten.sort.stable")
def sort(b: Builder, self: Tensor, dim: int = -1, descending: bool = False, stable: bool | None = None) -> list[Tensor]:
    return _sorted(b, self, dim, descending)


@lowering("aten.argsort.default", "aten.argsort.stable")
def argsort(b: Builder, self: Tensor, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Tensor:
    return _sorted(b, self, dim, descending)[1]


@lowering("aten.msort.default")
def msort(b: Builder, self: Tensor) -> Tensor:
    return _sorted(b, self, 0, False)[0]


@lowering("aten.topk.default")
def topk(b: Builder, self: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> list[Tensor]:
    b.check_dtype(self)
    if not self.rank:
        raise Unsupported("topk of a tensor of rank 0")
    d = dim_of(dim, self.rank)
    if not 0 <= k <= self.shape[d]:
        raise Unsupported(f"the {k} first of {self.shape[d]}")
    shape = [k if i == d else n for i, n in enumerate(self.shape)]
    outs = [b.temp(shape, self.dtype), b.temp(shape, "int64")]
    b.emit("topk", [self], outs, axis=d, largest=largest)
    return list(outs)
