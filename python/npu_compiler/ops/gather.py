"""Operators that read elements by index."""

from __future__ import annotations

from typing import Any

from ..errors import Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, Tensor, broadcast, dim_of, lowering


def index_of(b: Builder, index: View) -> View:
    if class_of(index.dtype) != "i" or index.dtype == "uint8":
        raise Unsupported(f"an index of dtype {index.dtype}; how much a mask selects is known only at run time")
    return b.cast(index, "int64")


def advanced(
    b: Builder, shape: tuple[int, ...], indices: list[View | None]
) -> tuple[list[View], list[int], list[int], list[int]]:
    """The index operands, their axes, the dims of the other dimensions, and the shape of ``x[indices]``."""
    given = [(d, index_of(b, i)) for d, i in enumerate(indices) if i is not None]
    if not given:
        raise Unsupported("indexing without an index")
    common = broadcast(*(i.shape for _, i in given))
    axes = [d for d, _ in given]
    start = axes[0] if axes == list(range(axes[0], axes[0] + len(axes))) else 0
    free = [d for d in range(len(shape)) if d not in axes]
    before = [d for d in free if d < axes[0]] if start else []
    after = [d for d in free if d not in before]
    full = [shape[d] for d in before] + list(common) + [shape[d] for d in after]
    position = {d: p for p, d in enumerate(before)} | {d: len(before) + len(common) + p for p, d in enumerate(after)}
    dims = [position.get(d, -1) for d in range(len(shape))]
    views = []
    for _, index in given:
        index = index.expand(common)
        for _ in after:
            index = index.unsqueeze(index.rank)
        views.append(index.expand(full))
    return views, axes, dims, full


@lowering("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index(b: Builder, self: Tensor, indices: list[Tensor | None]) -> Tensor:
    b.check_dtype(self)
    views, axes, dims, shape = advanced(b, self.shape, indices)
    return b.new("gather", [self, *views], shape, self.dtype, axes=axes, dims=dims, wrap=True)


@lowering("aten.index_select.default")
def index_select(b: Builder, self: Tensor, dim: int, index: Tensor) -> Tensor:
    if not self.rank:
        return self
    d = dim_of(dim, self.rank)
    if index.rank == 0:
        index = index.unsqueeze(0)
    views, axes, dims, shape = advanced(b, self.shape, [None] * d + [index])
    return b.new("gather", [self, *views], shape, self.dtype, axes=axes, dims=dims)


@lowering("aten.embedding.default")
def embedding(
    b: Builder,
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    views, axes, dims, shape = advanced(b, weight.shape, [indices])
    return b.new("gather", [weight, *views], shape, weight.dtype, axes=axes, dims=dims)


def along_axis(x: View, d: int) -> dict[str, list[int]]:
    return {"axes": [d], "dims": [-1 if i == d else i for i in range(x.rank)]}


@lowering("aten.gather.default")
def gather(b: Builder, self: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    return _gathered(b, self, dim, index, wrap=False)


def _gathered(b: Builder, x: View, dim: int, index: View, wrap: bool) -> View:
    b.check_dtype(x)
    if not x.rank:
        return x.expand(index.shape)
    if not index.rank:
        return _gathered(b, x, dim, index.unsqueeze(0), wrap).drop(0)
    attrs: dict[str, Any] = along_axis(x, dim_of(dim, x.rank)) | ({"wrap": True} if wrap else {})
    return b.new("gather", [x, index_of(b, index)], index.shape, x.dtype, **attrs)


@lowering("aten.take_along_dim.default")
def take_along_dim(b: Builder, self: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    if dim is None:
        return take(b, self, b.reshape(indices, (indices.elements,)))
    d = dim_of(dim, self.rank)
    lead = broadcast(*([n for i, n in enumerate(t.shape) if i != d] for t in (self, indices)))
    x, i = (t.expand((*lead[:d], t.shape[d], *lead[d:])) for t in (self, indices))
    return _gathered(b, x, d, i, wrap=True)


@lowering("aten.take.default")
def take(b: Builder, self: Tensor, index: Tensor) -> Tensor:
    flat = b.reshape(self, (self.elements,))
    dims = [-1]
    return b.new("gather", [flat, index_of(b, index)], index.shape, self.dtype, axes=[0], dims=dims, wrap=True)
