"""Matrices from their diagonals."""

from __future__ import annotations

from ..errors import Unsupported
from ..graph import View
from ..lowering import Builder, Tensor, dim_of, lowering
from .map import select
from .pad import padded
from .views import diagonal


def _placed(b: Builder, src: View, rows: int, columns: int, offset: int, other: View | int) -> View:
    """[..., count] on a diagonal of [..., rows, columns], ``other`` elsewhere."""
    low = max(-offset, 0)
    tall = padded(b, src, [low, rows - low - src.shape[-1]], "constant").unsqueeze(src.rank)
    row, column = b.iota(rows).unsqueeze(1), b.iota(columns)
    on = b.map("column - row == offset", "bool", row=row, column=column, offset=offset)
    shape = (*src.shape[:-1], rows, columns)
    return select(b, on.expand(shape), tall.expand(shape), other, src.dtype)


@lowering("aten.diag_embed.default")
def diag_embed(b: Builder, self: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    size, rank = self.shape[-1] + abs(offset), self.rank + 1
    out = _placed(b, self, size, size, offset, 0)
    i, j = dim_of(dim1, rank), dim_of(dim2, rank)
    if i == j:
        raise Unsupported("a diagonal along one dimension")
    rest = iter(range(rank - 2))
    return out.permute(rank - 2 if d == i else rank - 1 if d == j else next(rest) for d in range(rank))


@lowering("aten.diag.default")
def diag(b: Builder, self: Tensor, diagonal: int = 0) -> Tensor:
    return diag_embed(b, self, diagonal) if self.rank == 1 else _diagonal(b, self, diagonal)


_diagonal = diagonal


@lowering("aten.diagonal_scatter.default")
def diagonal_scatter(b: Builder, self: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    i, j = dim_of(dim1, self.rank), dim_of(dim2, self.rank)
    order = [*(d for d in range(self.rank) if d not in (i, j)), i, j]
    x = self.permute(order)
    if src.shape != (*x.shape[:-2], src.shape[-1]) or src.dtype != x.dtype:
        raise Unsupported(f"a diagonal {src.dtype}{list(src.shape)} of {x.dtype}{list(self.shape)}")
    out = _placed(b, src, x.shape[-2], x.shape[-1], offset, x)
    return out.permute(order.index(d) for d in range(self.rank))
