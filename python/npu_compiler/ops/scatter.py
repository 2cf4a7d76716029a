"""Writing by index: a new tensor that differs from the first one where the indices say."""

from __future__ import annotations

from typing import Any

from ..errors import Refused, Unsupported
from ..graph import View
from ..lowering import Builder, Scalar, Tensor, dim_of, lowering
from .gather import advanced, along_axis, index_of
from .views import slice_range

_KINDS = {"sum": "add", "add": "add", "prod": "mul", "multiply": "mul", "amax": "max", "amin": "min"}


def written(b: Builder, x: View, updates: View, indices: list[View], kind: str, **attrs: Any) -> View:
    b.check_dtype(x)
    if not updates.elements:
        return x
    return b.new("scatter", [x, updates, *indices], x.shape, x.dtype, kind=kind, **attrs)


def _scatter(b: Builder, x: View, dim: int, index: View, source: View | Scalar, kind: str) -> View:
    if not x.rank or not index.rank:
        x_, index_, source_ = (t.unsqueeze(0) if isinstance(t, View) and not t.rank else t for t in (x, index, source))
        wide = _scatter(b, x_, dim, index_, source_, kind)  # type: ignore[arg-type]
        return wide if x.rank else wide.drop(0)
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
    if reduce not in _KINDS or not include_self:
        raise Refused(f"reduce={reduce!r} with include_self={include_self}")
    return _scatter(b, self, dim, index, src, _KINDS[reduce])


def put(b: Builder, x: View, indices: list[View | None], values: View, kind: str, wrap: bool = False) -> View:
    views, axes, dims, shape = advanced(b, x.shape, indices)
    return written(b, x, b.cast(values, x.dtype).expand(shape), views, kind, axes=axes, dims=dims, wrap=wrap)


@lowering("aten.index_put.default", "aten._unsafe_index_put.default")
def index_put(
    b: Builder, self: Tensor, indices: list[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    return put(b, self, indices, values, "add" if accumulate else "set", wrap=True)


def _vector(index: View) -> View:
    return index if index.rank else index.unsqueeze(0)


@lowering("aten.index_copy.default")
def index_copy(b: Builder, self: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    if not self.rank:
        return source
    return put(b, self, [None] * dim_of(dim, self.rank) + [_vector(index)], source, "set")


@lowering("aten.index_add.default")
def index_add(b: Builder, self: Tensor, dim: int, index: Tensor, source: Tensor, alpha: Scalar = 1) -> Tensor:
    if not self.rank:
        raise Unsupported("index_add of rank 0")
    updates = source if alpha == 1 else b.map("x * alpha", source.dtype, x=source, alpha=alpha)
    return put(b, self, [None] * dim_of(dim, self.rank) + [_vector(index)], updates, "add")


@lowering("aten.index_fill.int_Scalar", "aten.index_fill.int_Tensor")
def index_fill(b: Builder, self: Tensor, dim: int, index: Tensor, value: Tensor | Scalar) -> Tensor:
    updates = value if isinstance(value, View) else b.full((), value, self.dtype)
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
