"""Distances and similarities of vectors, and norms of matrices."""

from __future__ import annotations

import math

from ..errors import Refused, Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, DType, Scalar, Tensor, broadcast, dim_of, lowering
from .reduce import Dims, reduced, vector_norm


@lowering("aten.dist.default")
def dist(b: Builder, self: Tensor, other: Tensor, p: Scalar = 2) -> Tensor:
    return vector_norm(b, b.map("x - y", self.dtype, x=self, y=other), p)


@lowering("aten.pairwise_distance.default")
def pairwise_distance(
    b: Builder, x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    away = b.map("x - y + eps", x1.dtype, x=x1, y=x2, eps=eps)
    return vector_norm(b, away, p, away.rank - 1, keepdim)


@lowering("aten.cdist.default", "aten._cdist_forward.default")
def cdist(b: Builder, x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: int | None = None) -> Tensor:
    if x1.rank < 2 or x2.rank < 2 or x1.shape[-1] != x2.shape[-1]:
        raise Unsupported(f"distances of {list(x1.shape)} and {list(x2.shape)}")
    away = b.map("x - y", x1.dtype, x=x1.unsqueeze(x1.rank - 1), y=x2.unsqueeze(x2.rank - 2))
    return vector_norm(b, away, p, away.rank - 1)


@lowering("aten.cosine_similarity.default")
def cosine_similarity(b: Builder, x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    if class_of(x1.dtype) != "f" or x1.dtype != x2.dtype:
        raise Unsupported(f"a similarity of {x1.dtype} and {x2.dtype}")
    shape = broadcast(x1.shape, x2.shape)
    d = dim_of(dim, len(shape))
    x, y = x1.expand(shape), x2.expand(shape)
    sizes = [
        b.map("max(sqrt(s), eps)", "float32", s=_summed(b, b.map("v * v", "float32", v=v), d), eps=eps) for v in (x, y)
    ]
    product = b.map("x / n * (y / m)", "float32", x=x, y=y, n=sizes[0], m=sizes[1])
    return b.cast(_summed(b, product, d), x1.dtype).drop(d)


def _summed(b: Builder, x: View, d: int) -> View:
    return reduced(b, x, "sum", [d], x.dtype)


@lowering("aten.linalg_matrix_norm.default", "aten.linalg_matrix_norm.str_ord")
def matrix_norm(
    b: Builder,
    self: Tensor,
    ord: Scalar | str = "fro",
    dim: list[int] = (-2, -1),  # type: ignore[assignment]
    keepdim: bool = False,
    dtype: DType | None = None,
) -> Tensor:
    rows, columns = (dim_of(d, self.rank) for d in dim)
    if ord == "fro":
        return vector_norm(b, self, 2, [rows, columns], keepdim, dtype)
    if isinstance(ord, str) or abs(ord) not in (1, math.inf):
        raise Refused(f"the matrix norm {ord!r}, which needs singular values")
    inner, outer = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = vector_norm(b, self, 1, inner, True, dtype)
    best = reduced(b, sums, "max" if ord > 0 else "min", [outer], sums.dtype)
    for d in sorted([] if keepdim else [rows, columns], reverse=True):
        best = best.drop(d)
    return best


@lowering("aten.linalg_norm.default")
def linalg_norm(
    b: Builder,
    self: Tensor,
    ord: Scalar | None = None,
    dim: Dims = None,
    keepdim: bool = False,
    dtype: DType | None = None,
) -> Tensor:
    axes = list(range(self.rank)) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    if ord is None or len(axes) == 1:
        return vector_norm(b, self, 2 if ord is None else ord, axes, keepdim, dtype)
    return matrix_norm(b, self, ord, axes, keepdim, dtype)
