"""Matrices from their diagonals."""

from __future__ import annotations

from ..errors import Unsupported
from ..graph import View
from ..lowering import Builder, Tensor, dim_of, lowering
from .scatter import written
from .views import diagonal


def _placed(b: Builder, out: View, src: View, offset: int, i: int, j: int) -> View:
    """``out`` with ``src``, whose last dimension runs along it, on a diagonal of dimensions i and j."""
    rest = iter(range(out.rank - 2))
    dims = [-1 if d in (i, j) else next(rest) for d in range(out.rank)]
    at = [b.iota(src.shape[-1], low).expand(src.shape) for low in (max(-offset, 0), max(offset, 0))]
    axes, indices = zip(*sorted(zip((i, j), at, strict=True), key=lambda pair: pair[0]), strict=True)
    return written(b, out, src, list(indices), "set", axes=list(axes), dims=dims)


@lowering("aten.diag_embed.default")
def diag_embed(b: Builder, self: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    size, rank = self.shape[-1] + abs(offset), self.rank + 1
    i, j = dim_of(dim1, rank), dim_of(dim2, rank)
    if i == j:
        raise Unsupported("a diagonal along one dimension")
    rest = iter(self.shape[:-1])
    shape = [size if d in (i, j) else next(rest) for d in range(rank)]
    return _placed(b, b.full((), 0, self.dtype).expand(shape), self, offset, i, j)


@lowering("aten.diag.default")
def diag(b: Builder, self: Tensor, diagonal: int = 0) -> Tensor:
    return diag_embed(b, self, diagonal) if self.rank == 1 else _diagonal(b, self, diagonal)


_diagonal = diagonal


@lowering("aten.diagonal_scatter.default")
def diagonal_scatter(b: Builder, self: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    i, j = dim_of(dim1, self.rank), dim_of(dim2, self.rank)
    rest = [n for d, n in enumerate(self.shape) if d not in (i, j)]
    if src.shape != (*rest, src.shape[-1]) or src.dtype != self.dtype:
        raise Unsupported(f"a diagonal {src.dtype}{list(src.shape)} of {self.dtype}{list(self.shape)}")
    return _placed(b, self, src, offset, i, j)
