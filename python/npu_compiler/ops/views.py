"""Operators whose results are views of their input."""

from __future__ import annotations

import math
from itertools import pairwise

from ..errors import Unsupported
from ..graph import View
from ..lowering import Builder, DType, Tensor, broadcast, dim_of, dims_of, lowering


@lowering("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.view_copy.default",
          "aten._reshape_copy.default")  # fmt: skip
def view(b: Builder, self: Tensor, size: list[int] | None = None, shape: list[int] | None = None) -> Tensor:
    wanted = list(size if size is not None else shape or [])
    if -1 in wanted:
        rest = -math.prod(wanted)
        if not rest or self.elements % rest:
            raise Unsupported(f"shape {list(self.shape)} as {wanted}")
        wanted[wanted.index(-1)] = self.elements // rest
    return b.reshape(self, wanted)


@lowering("aten.view.dtype")
def view_as_dtype(b: Builder, self: Tensor, dtype: DType) -> Tensor:
    if dtype != self.dtype:
        raise Unsupported(f"the bits of {self.dtype} read as {dtype}")
    return self


@lowering("aten.reshape_as.default", "aten.view_as.default")
def view_as(b: Builder, self: Tensor, other: Tensor) -> Tensor:
    return b.reshape(self, other.shape)


@lowering("aten.flatten.using_ints")
def flatten(b: Builder, self: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    if not self.rank:
        return b.reshape(self, (1,))
    i, j = dim_of(start_dim, self.rank), dim_of(end_dim, self.rank)
    return b.reshape(self, (*self.shape[:i], math.prod(self.shape[i : j + 1]), *self.shape[j + 1 :]))


@lowering("aten.unflatten.int")
def unflatten(b: Builder, self: Tensor, dim: int, sizes: list[int]) -> Tensor:
    d = dim_of(dim, self.rank)
    sizes = list(sizes)
    if -1 in sizes:
        sizes[sizes.index(-1)] = self.shape[d] // -math.prod(sizes)
    return b.reshape(self, (*self.shape[:d], *sizes, *self.shape[d + 1 :]))


@lowering("aten.ravel.default")
def ravel(b: Builder, self: Tensor) -> Tensor:
    return b.reshape(self, (self.elements,))


@lowering("aten.transpose.int", "aten.swapaxes.default", "aten.swapdims.default", "aten.transpose_copy.int")
def transpose(
    b: Builder, self: Tensor, dim0: int = 0, dim1: int = 0, axis0: int | None = None, axis1: int | None = None
) -> Tensor:
    first, second = (dim0 if axis0 is None else axis0), (dim1 if axis1 is None else axis1)
    return self.transpose(dim_of(first, self.rank), dim_of(second, self.rank)) if self.rank else self


@lowering("aten.t.default", "aten.numpy_T.default", "aten.t_copy.default")
def t(b: Builder, self: Tensor) -> Tensor:
    return self.permute(reversed(range(self.rank)))


@lowering("aten.mT.default", "aten.mH.default", "aten.matrix_H.default", "aten.adjoint.default")
def matrix_transpose(b: Builder, self: Tensor) -> Tensor:
    if self.rank < 2:
        raise Unsupported(f"a transposed matrix of rank {self.rank}")
    return self.transpose(self.rank - 2, self.rank - 1)


@lowering("aten.permute.default", "aten.permute_copy.default")
def permute(b: Builder, self: Tensor, dims: list[int]) -> Tensor:
    return self.permute(dim_of(d, self.rank) for d in dims)


@lowering("aten.movedim.intlist", "aten.movedim.int", "aten.moveaxis.intlist", "aten.moveaxis.int")
def movedim(b: Builder, self: Tensor, source: int | list[int], destination: int | list[int]) -> Tensor:
    sources = [dim_of(d, self.rank) for d in ([source] if isinstance(source, int) else source)]
    targets = [dim_of(d, self.rank) for d in ([destination] if isinstance(destination, int) else destination)]
    rest = iter(d for d in range(self.rank) if d not in sources)
    return self.permute(sources[targets.index(d)] if d in targets else next(rest) for d in range(self.rank))


@lowering("aten.unsqueeze.default", "aten.unsqueeze_copy.default")
def unsqueeze(b: Builder, self: Tensor, dim: int) -> Tensor:
    return self.unsqueeze(dim_of(dim, self.rank + 1))


@lowering(
    "aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze_copy.dim", "aten.squeeze_copy.dims"
)
def squeeze(b: Builder, self: Tensor, dim: int | list[int] | None = None) -> Tensor:
    dims = range(self.rank) if dim is None else [dim_of(d, self.rank) for d in ([dim] if isinstance(dim, int) else dim)]
    x = self
    for d in sorted(dims, reverse=True):
        if d < x.rank and x.shape[d] == 1:
            x = x.drop(d)
    return x


@lowering("aten.expand.default", "aten.broadcast_to.default", "aten.expand_copy.default")
def expand(b: Builder, self: Tensor, size: list[int], implicit: bool = False) -> Tensor:
    gap = len(size) - self.rank
    return self.expand(self.shape[i - gap] if n == -1 else n for i, n in enumerate(size))


@lowering("aten.expand_as.default")
def expand_as(b: Builder, self: Tensor, other: Tensor) -> Tensor:
    return self.expand(other.shape)


@lowering("aten.broadcast_tensors.default")
def broadcast_tensors(b: Builder, tensors: list[Tensor]) -> list[Tensor]:
    shape = broadcast(*(x.shape for x in tensors))
    return [x.expand(shape) for x in tensors]


def slice_range(n: int, start: int | None, end: int | None, step: int) -> tuple[int, int]:
    """The first index and the count, as in Python slices."""
    first, last, step = slice(start, end, step).indices(n)
    return first, max(0, -(-(last - first) // step))


@lowering("aten.slice.Tensor", "aten.slice_copy.Tensor")
def slice_(
    b: Builder, self: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    d = dim_of(dim, self.rank)
    first, count = slice_range(self.shape[d], start, end, step)
    return self.slice(d, first, count, step)


@lowering("aten.narrow.default", "aten.narrow_copy.default")
def narrow(b: Builder, self: Tensor, dim: int, start: int, length: int) -> Tensor:
    d = dim_of(dim, self.rank)
    return self.slice(d, start % self.shape[d] if start < 0 else start, length)


@lowering("aten.select.int", "aten.select_copy.int")
def select(b: Builder, self: Tensor, dim: int, index: int) -> Tensor:
    d = dim_of(dim, self.rank)
    if not -self.shape[d] <= index < self.shape[d]:
        raise Unsupported(f"index {index} of {self.shape[d]}")
    return self.slice(d, index % self.shape[d], 1).drop(d)


MAX_PARTS = 65536
"""The most results of one operator; more would make programs too large."""


def split_at(x: View, dim: int, sizes: list[int]) -> list[View]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [x.slice(dim, start, size) for start, size in zip(starts, sizes, strict=True)]


@lowering("aten.split.Tensor", "aten.split.sizes", "aten.split_with_sizes.default", "aten.split_copy.Tensor",
          "aten.split_with_sizes_copy.default", "aten.unsafe_split.Tensor",
          "aten.unsafe_split_with_sizes.default")  # fmt: skip
def split(
    b: Builder, self: Tensor, split_size: int | list[int] = 0, dim: int = 0, split_sizes: list[int] | None = None
) -> list[Tensor]:
    d = dim_of(dim, self.rank)
    size = split_size if split_sizes is None else split_sizes
    if isinstance(size, int):
        n = self.shape[d]
        if size and n // size > MAX_PARTS:
            raise Unsupported(f"{n // size} parts")
        size = [min(size, n - i) for i in range(0, n, size)] if n else [0]
    return split_at(self, d, list(size))


@lowering("aten.chunk.default", "aten.unsafe_chunk.default")
def chunk(b: Builder, self: Tensor, chunks: int, dim: int = 0) -> list[Tensor]:
    n = self.shape[dim_of(dim, self.rank)]
    if not n:
        return split(b, self, 0, dim, [0] * chunks)
    return split(b, self, -(-n // chunks), dim)


@lowering("aten.tensor_split.sections")
def tensor_split(b: Builder, self: Tensor, sections: int, dim: int = 0) -> list[Tensor]:
    d = dim_of(dim, self.rank)
    small, more = divmod(self.shape[d], sections)
    return split_at(self, d, [small + (i < more) for i in range(sections)])


@lowering("aten.tensor_split.indices")
def tensor_split_at(b: Builder, self: Tensor, indices: list[int], dim: int = 0) -> list[Tensor]:
    d = dim_of(dim, self.rank)
    edges = [0, *indices, self.shape[d]]
    return [slice_(b, self, d, first, last) for first, last in pairwise(edges)]


def _register_split(name: str, least: int, dim: int) -> None:
    @lowering(f"aten.{name}.int")
    def equal_parts(b: Builder, self: Tensor, sections: int) -> list[Tensor]:
        d = 0 if self.rank < 2 else dim
        if self.rank < least or not sections or self.shape[d] % sections:
            raise Unsupported(f"{list(self.shape)} in {sections} equal parts along dimension {d}")
        return tensor_split(b, self, sections, d)

    @lowering(f"aten.{name}.array")
    def parts_at(b: Builder, self: Tensor, indices: list[int]) -> list[Tensor]:
        if self.rank < least:
            raise Unsupported(f"rank {self.rank}")
        return tensor_split_at(b, self, indices, 0 if self.rank < 2 else dim)


for _name, _least, _dim in (("hsplit", 1, 1), ("vsplit", 2, 0), ("dsplit", 3, 2)):
    _register_split(_name, _least, _dim)


@lowering("aten.unbind.int", "aten.unbind_copy.int")
def unbind(b: Builder, self: Tensor, dim: int = 0) -> list[Tensor]:
    d = dim_of(dim, self.rank)
    if self.shape[d] > MAX_PARTS:
        raise Unsupported(f"{self.shape[d]} parts")
    return [self.slice(d, i, 1).drop(d) for i in range(self.shape[d])]


@lowering("aten.flip.default")
def flip(b: Builder, self: Tensor, dims: list[int]) -> Tensor:
    x = self
    for d in dims_of(dims, x.rank) if len(dims) else ():
        if x.elements:
            x = x.slice(d, x.shape[d] - 1, x.shape[d], -1)
    return x


@lowering("aten.fliplr.default")
def fliplr(b: Builder, self: Tensor) -> Tensor:
    return flip(b, self, [1])


@lowering("aten.flipud.default")
def flipud(b: Builder, self: Tensor) -> Tensor:
    return flip(b, self, [0])


@lowering("aten.rot90.default")
def rot90(b: Builder, self: Tensor, k: int = 1, dims: list[int] = (0, 1)) -> Tensor:  # type: ignore[assignment]
    i, j = (dim_of(d, self.rank) for d in dims)
    x = flip(b, self, {0: [], 1: [j], 2: [i, j], 3: [i]}[k % 4])
    return x.transpose(i, j) if k % 2 else x


@lowering("aten.atleast_1d.default")
def atleast_1d(b: Builder, self: Tensor) -> Tensor:
    return self if self.rank else self.unsqueeze(0)


@lowering("aten.atleast_2d.default")
def atleast_2d(b: Builder, self: Tensor) -> Tensor:
    return self if self.rank > 1 else atleast_1d(b, self).unsqueeze(0)


@lowering("aten.atleast_3d.default")
def atleast_3d(b: Builder, self: Tensor) -> Tensor:
    return self if self.rank > 2 else atleast_2d(b, self).unsqueeze(2)


@lowering("aten.real.default")
def real(b: Builder, self: Tensor) -> Tensor:
    return self  # no dtype here is complex


@lowering("aten.unfold.default")
def unfold(b: Builder, self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    if not self.rank:
        return View(self.value, (size,), (0,), self.offset)
    d = dim_of(dimension, self.rank)
    x = self.slice(d, 0, (self.shape[d] - size) // step + 1, step)
    return View(x.value, (*x.shape, size), (*x.strides, self.strides[d]), x.offset)


@lowering("aten.linalg_diagonal.default")
def linalg_diagonal(b: Builder, A: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    return diagonal(b, A, offset, dim1, dim2)


@lowering("aten.diagonal.default", "aten.diagonal_copy.default")
def diagonal(b: Builder, self: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    i, j = dim_of(dim1, self.rank), dim_of(dim2, self.rank)
    row, column = max(-offset, 0), max(offset, 0)
    count = max(0, min(self.shape[i] - row, self.shape[j] - column))
    order = [d for d in range(self.rank) if d not in (i, j)]
    x = self.permute([*order, i, j])
    start = x.offset + (row * x.strides[-2] + column * x.strides[-1] if count else 0)
    return View(x.value, (*x.shape[:-2], count), (*x.strides[:-2], x.strides[-2] + x.strides[-1]), start)


@lowering("aten.pixel_shuffle.default")
def pixel_shuffle(b: Builder, self: Tensor, upscale_factor: int) -> Tensor:
    *lead, c, h, w = self.shape
    r, k = upscale_factor, len(lead)
    x = b.reshape(self, (*lead, c // (r * r), r, r, h, w)).permute([*range(k), k, k + 3, k + 1, k + 4, k + 2])
    return b.reshape(x, (*lead, c // (r * r), h * r, w * r))


@lowering("aten.pixel_unshuffle.default")
def pixel_unshuffle(b: Builder, self: Tensor, downscale_factor: int) -> Tensor:
    *lead, c, h, w = self.shape
    r, k = downscale_factor, len(lead)
    x = b.reshape(self, (*lead, c, h // r, r, w // r, r)).permute([*range(k), k, k + 2, k + 4, k + 1, k + 3])
    return b.reshape(x, (*lead, c * r * r, h // r, w // r))


@lowering("aten.channel_shuffle.default", "aten.native_channel_shuffle.default")
def channel_shuffle(b: Builder, self: Tensor, groups: int) -> Tensor:
    n, c, *rest = self.shape
    x = b.reshape(self, (n, groups, c // groups, *rest)).transpose(1, 2)
    return b.reshape(x, self.shape)
