"""Operators that write elements by index, to a copy of their input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import Refused, Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, Scalar, Tensor, broadcast, dim_of, lowering
from .gather import advanced, along_axis, index_of
from .map import add_, select
from .views import slice_range

_KINDS = {"sum": "add", "add": "add", "prod": "mul", "multiply": "mul", "amax": "max", "amin": "min"}


def written(b: Builder, x: View, updates: View, indices: list[View], kind: str, **attrs: Any) -> View:
    b.check_dtype(x)
    if not updates.elements:
        return x
    if x.dtype == "bool" and kind != "set":  # sums and products of bools
        x, updates = b.cast(x, "uint8"), b.cast(updates, "uint8")
        return b.cast(written(b, x, updates, indices, {"add": "max", "mul": "min"}.get(kind, kind), **attrs), "bool")
    return b.new("scatter", [x, updates, *indices], x.shape, x.dtype, kind=kind, **attrs)


def _scatter(b: Builder, x: View, dim: int, index: View, source: View | Scalar, kind: str) -> View:
    if not x.rank or not index.rank:
        x_, index_, source_ = (t.unsqueeze(0) if isinstance(t, View) and not t.rank else t for t in (x, index, source))
        result = _scatter(b, x_, dim, index_, source_, kind)  # type: ignore[arg-type]
        return result if x.rank else result.drop(0)
    if isinstance(source, View):
        for d, n in enumerate(index.shape):
            source = source.slice(d, 0, n)
        if source.dtype != x.dtype:
            raise Unsupported(f"updates of dtype {source.dtype} for {x.dtype}")
    else:
        source = b.full((), source, x.dtype).expand(index.shape)
    return written(b, x, source, [index_of(b, index)], kind, **along_axis(x, dim_of(dim, x.rank)))


@lowering(
    "aten.scatter.src",
    "aten.scatter.value",
    "aten.scatter.reduce",
    "aten.scatter.value_reduce",
    "aten.scatter_add.default",
)
def scatter(
    b: Builder,
    self: Tensor,
    dim: int,
    index: Tensor,
    src: Tensor | None = None,
    value: Scalar | None = None,
    reduce: str | None = None,
) -> Tensor:
    kind = _KINDS[reduce] if reduce else "add" if b.node and "scatter_add" in b.node.op_type else "set"
    source = value if src is None else src
    if source is None:
        raise Unsupported("nothing to write")
    return _scatter(b, self, dim, index, source, kind)


@lowering("aten.scatter_reduce.two")
def scatter_reduce(
    b: Builder, self: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, include_self: bool = True
) -> Tensor:
    def write(x: View, source: View | Scalar, kind: str) -> View:
        return _scatter(b, x, dim, index, source, kind)

    return _reduced(b, self, src, reduce, include_self, write)


def _reduced(
    b: Builder, x: View, src: View, reduce: str, include_self: bool, write: Callable[[View, View | Scalar, str], View]
) -> View:
    """``write`` writes numbers or a source at the indices."""
    kind = "add" if reduce == "mean" else _KINDS.get(reduce)
    if kind is None:
        raise Refused(f"reduce={reduce!r}")
    start = x if include_self else write(x, _nothing(kind, x.dtype), "set")
    total = write(start, src, kind)
    if reduce != "mean":
        return total
    counts = b.full((), 1, x.dtype).expand(x.shape)
    counts = write(counts if include_self else write(counts, 0, "set"), b.full((), 1, x.dtype).expand(src.shape), "add")
    return b.map("t / n" if class_of(x.dtype) == "f" else "t // n", x.dtype, compute=x.dtype, t=total, n=counts)


def _nothing(kind: str, dtype: str) -> Scalar:
    """The identity of a reduction of that kind."""
    if kind in ("add", "mul"):
        return int(kind == "mul")
    if class_of(dtype) == "f":
        return -math.inf if kind == "max" else math.inf
    if dtype == "bool":
        raise Unsupported("extremes of bool")
    limits = np.iinfo(dtype)
    return int(limits.min if kind == "max" else limits.max)


@lowering("aten.index_reduce.default")
def index_reduce(
    b: Builder, self: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, include_self: bool = True
) -> Tensor:
    if not self.rank:
        lifted = index_reduce(b, self.unsqueeze(0), 0, index, _vector(source), reduce, include_self)
        return lifted.drop(0)
    indices: list[View | None] = [None] * dim_of(dim, self.rank)
    indices.append(_vector(index))

    def write(x: View, values: View | Scalar, kind: str) -> View:
        return put(b, x, indices, values if isinstance(values, View) else b.full((), values, x.dtype), kind)

    return _reduced(b, self, source, reduce, include_self, write)


@lowering("aten.put.default")
def put_flat(b: Builder, self: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    flat, at = b.reshape(self, (self.elements,)), b.reshape(index, (index.elements,))
    values = b.reshape(source, (source.elements,))
    return b.reshape(put(b, flat, [at], values, "add" if accumulate else "set", wrap=True), self.shape)


@lowering("aten.masked_scatter.default")
def masked_scatter(b: Builder, self: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """The n-th position that the mask selects receives the n-th element of the source."""
    shape = broadcast(self.shape, mask.shape)
    if mask.dtype != "bool" or source.dtype != self.dtype or not source.elements:
        raise Unsupported(f"a mask {mask.dtype} and a source {source.dtype}{list(source.shape)}")
    count = math.prod(shape)
    chosen = b.reshape(mask.expand(shape), (count,))
    number = b.new("scan", [chosen], (count,), "int64", kind="sum", axis=0)
    index = b.map("min(max(n - 1, 0), last)", "int64", n=number, last=source.elements - 1)
    flat = b.reshape(source, (source.elements,))
    gathered = b.new("gather", [flat, index], (count,), self.dtype, axes=[0], dims=[-1])
    return select(b, mask.expand(shape), b.reshape(gathered, shape), self.expand(shape), self.dtype)


def _put_mask(b: Builder, x: View, indices: list[View | None], values: View, accumulate: bool) -> View:
    """Writes where a single mask selects. The value must be the same for all elements that it selects."""
    lead, mask = len(indices) - 1, indices[-1]
    if mask is None or mask.dtype != "bool" or any(i is not None for i in indices[:-1]):
        raise Unsupported("a mask among other indices; how much it selects is known only at run time")
    after = x.rank - lead - mask.rank
    if after < 0 or mask.shape != x.shape[lead : lead + mask.rank]:
        raise Unsupported(f"a mask {list(mask.shape)} of {list(x.shape)}")
    if values.rank > after:
        at = values.rank - after - 1
        if values.shape[at] != 1:
            raise Unsupported("a value for each element that a mask selects; their number is known only at run time")
        values = b.reshape(values, (*values.shape[:at], *[1] * mask.rank, *values.shape[at + 1 :]))
    for _ in range(after):
        mask = mask.unsqueeze(mask.rank)
    new = b.cast(values, x.dtype).expand(x.shape)
    new = add_(b, x, new) if accumulate else new
    return select(b, mask.expand(x.shape), new, x, x.dtype)


def put(b: Builder, x: View, indices: list[View | None], values: View, kind: str, wrap: bool = False) -> View:
    views, axes, dims, shape = advanced(b, x.shape, indices)
    return written(b, x, b.cast(values, x.dtype).expand(shape), views, kind, axes=axes, dims=dims, wrap=wrap)


@lowering("aten.index_put.default", "aten._unsafe_index_put.default")
def index_put(
    b: Builder, self: Tensor, indices: list[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    if any(i is not None and i.dtype in ("bool", "uint8") for i in indices):
        return _put_mask(b, self, indices, values, accumulate)
    return put(b, self, indices, values, "add" if accumulate else "set", wrap=True)


def _vector(x: View) -> View:
    return x if x.rank else x.unsqueeze(0)


@lowering("aten.index_copy.default")
def index_copy(b: Builder, self: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    if not self.rank:
        return source
    return put(b, self, [None] * dim_of(dim, self.rank) + [_vector(index)], source, "set")


@lowering("aten.index_add.default")
def index_add(b: Builder, self: Tensor, dim: int, index: Tensor, source: Tensor, alpha: Scalar = 1) -> Tensor:
    if not self.rank:
        return index_add(b, self.unsqueeze(0), 0, index, _vector(source), alpha).drop(0)
    updates = source if alpha == 1 else b.map("x * alpha", source.dtype, x=source, alpha=alpha)
    return put(b, self, [None] * dim_of(dim, self.rank) + [_vector(index)], updates, "add")


@lowering("aten.index_fill.int_Scalar", "aten.index_fill.int_Tensor")
def index_fill(b: Builder, self: Tensor, dim: int, index: Tensor, value: Tensor | Scalar) -> Tensor:
    updates = value if isinstance(value, View) else b.full((), value, self.dtype)
    if not self.rank:
        return index_fill(b, self.unsqueeze(0), 0, index, updates).drop(0)
    return put(b, self, [None] * dim_of(dim, self.rank) + [_vector(index)], updates, "set")


def _replace(b: Builder, x: View, src: View, dim: int, first: int, count: int, step: int) -> View:
    src = b.cast(src, x.dtype)
    if not count:
        return x
    if count == x.shape[dim]:
        return src
    return put(b, x, [None] * dim + [b.iota(count, first, step)], src, "set")


@lowering("aten.slice_scatter.default")
def slice_scatter(
    b: Builder, self: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    d = dim_of(dim, self.rank)
    first, count = slice_range(self.shape[d], start, end, step)
    return _replace(b, self, src.expand((*self.shape[:d], count, *self.shape[d + 1 :])), d, first, count, step)


@lowering("aten.select_scatter.default")
def select_scatter(b: Builder, self: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    d = dim_of(dim, self.rank)
    return _replace(b, self, src.unsqueeze(d), d, index % self.shape[d], 1, 1)
