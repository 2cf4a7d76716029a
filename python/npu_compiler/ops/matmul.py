"""Matrix products of every rank."""

from __future__ import annotations

import math

from ..errors import Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, Scalar, Tensor, broadcast, lowering


def product(b: Builder, x: View, y: View, bias: View | None = None) -> View:
    """``x @ y + bias`` for ranks of at least 2; batch dimensions are broadcast."""
    if class_of(x.dtype) != "f" or x.dtype != y.dtype:
        raise Unsupported(f"a product of {x.dtype} and {y.dtype}")
    if x.shape[-1] != y.shape[-2]:
        raise Unsupported(f"a product of {list(x.shape)} and {list(y.shape)}")
    lead = broadcast(x.shape[:-2], y.shape[:-2])
    shape = (*lead, x.shape[-2], y.shape[-1])
    if y.rank == 2 and x.rank > 2:  # one matrix for all rows
        rows = x.reshape((x.elements // max(x.shape[-1], 1), x.shape[-1])) if x.shape[-1] else None
        if rows is not None and (bias is None or bias.rank <= 1):
            return b.reshape(product(b, rows, y, bias), shape)
    x, y = x.expand((*lead, *x.shape[-2:])), y.expand((*lead, *y.shape[-2:]))
    return b.new("matmul", [x, y, None if bias is None else bias.expand(shape)], shape, x.dtype)


@lowering("aten.matmul.default", "aten.linalg_matmul.default")
def matmul(b: Builder, self: Tensor, other: Tensor) -> Tensor:
    x, y = self, other
    if not x.rank or not y.rank:
        raise Unsupported("a product needs tensors of rank 1 or more")
    row, column = x.rank == 1, y.rank == 1
    out = product(b, x.unsqueeze(0) if row else x, y.unsqueeze(1) if column else y)
    out = out.drop(out.rank - 1) if column else out
    return out.drop(out.rank - (1 if column else 2)) if row else out


@lowering("aten.mm.default", "aten.bmm.default")
def mm(b: Builder, self: Tensor, mat2: Tensor) -> Tensor:
    return matmul(b, self, mat2)


@lowering("aten.mv.default")
def mv(b: Builder, self: Tensor, vec: Tensor) -> Tensor:
    return matmul(b, self, vec)


@lowering("aten.dot.default", "aten.inner.default", "aten.vdot.default")
def dot(b: Builder, self: Tensor, tensor: Tensor | None = None, other: Tensor | None = None) -> Tensor:
    y = tensor if other is None else other
    if y is None or y.rank != 1 or self.rank != 1:
        raise Unsupported("an inner product of other than two vectors")
    return matmul(b, self, y)


@lowering("aten.linear.default")
def linear(b: Builder, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if weight.rank == 1:
        return matmul(b, input, weight)
    x = input if input.rank > 1 else input.unsqueeze(0)
    out = product(b, x, weight.transpose(0, 1), bias)
    return out if input.rank > 1 else out.drop(0)


def _scaled(b: Builder, out: View, self: View, beta: Scalar, alpha: Scalar) -> View:
    return b.map(
        "out * alpha + self * beta" if beta else "out * alpha", out.dtype, out=out, self=self, alpha=alpha, beta=beta
    )


@lowering("aten.addmm.default")
def addmm(b: Builder, self: Tensor, mat1: Tensor, mat2: Tensor, beta: Scalar = 1, alpha: Scalar = 1) -> Tensor:
    if beta == 1 and alpha == 1 and self.dtype == mat1.dtype and mat2.rank > 1:
        return product(b, mat1, mat2, self)
    return _scaled(b, matmul(b, mat1, mat2), self, beta, alpha)


@lowering("aten.baddbmm.default")
def baddbmm(b: Builder, self: Tensor, batch1: Tensor, batch2: Tensor, beta: Scalar = 1, alpha: Scalar = 1) -> Tensor:
    return addmm(b, self, batch1, batch2, beta, alpha)


@lowering("aten.addmv.default")
def addmv(b: Builder, self: Tensor, mat: Tensor, vec: Tensor, beta: Scalar = 1, alpha: Scalar = 1) -> Tensor:
    return addmm(b, self, mat, vec, beta, alpha)


@lowering("aten.addbmm.default")
def addbmm(b: Builder, self: Tensor, batch1: Tensor, batch2: Tensor, beta: Scalar = 1, alpha: Scalar = 1) -> Tensor:
    total = product(b, batch1, batch2)
    summed = b.new("reduce", [total], (1, *total.shape[1:]), total.dtype, kind="sum", axes=[0]).drop(0)
    return _scaled(b, summed, self, beta, alpha)


@lowering("aten.outer.default")
def outer(b: Builder, self: Tensor, vec2: Tensor) -> Tensor:
    return b.map("x * y", self.dtype, x=self.unsqueeze(1), y=vec2)


@lowering("aten.einsum.default")
def einsum(b: Builder, equation: str, tensors: list[Tensor], path: list[int] | None = None) -> Tensor:
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if "." in equation or len(terms) != len(tensors) or any(len(set(t)) != len(t) for t in [*terms, result]):
        raise Unsupported(f"the equation '{equation}'")
    if not arrow:
        result = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    names, x = terms[0], tensors[0]
    for i, (other, y) in enumerate(zip(terms[1:], tensors[1:], strict=True), 2):
        later = set(result).union(*terms[i:])
        names, x = _contract(b, names, x, other, y, later)
    x = _sum_away(b, names, x, set(result))[1]
    names = "".join(c for c in names if c in result)
    return x.permute(names.index(c) for c in result)


def _sum_away(b: Builder, names: str, x: View, keep: set[str]) -> tuple[str, View]:
    axes = [d for d, c in enumerate(names) if c not in keep]
    if axes:
        x = b.new("reduce", [x], [1 if d in axes else n for d, n in enumerate(x.shape)], x.dtype, kind="sum", axes=axes)
        for d in reversed(axes):
            x = x.drop(d)
    return "".join(c for c in names if c in keep), x


def _contract(b: Builder, p: str, x: View, q: str, y: View, later: set[str]) -> tuple[str, View]:
    """One product of two terms; ``later`` are the indices that must remain."""
    p, x = _sum_away(b, p, x, later | set(q))
    q, y = _sum_away(b, q, y, later | set(p))
    sizes = dict(zip(p + q, x.shape + y.shape, strict=True))
    batch = [c for c in p if c in q and c in later]
    inner = [c for c in p if c in q and c not in later]
    rows, columns = [c for c in p if c not in q], [c for c in q if c not in p]
    if any(x.shape[p.index(c)] != y.shape[q.index(c)] for c in batch + inner):
        raise Unsupported(f"'{p},{q}' of {list(x.shape)} and {list(y.shape)}")

    def size(group: list[str]) -> int:
        return math.prod(sizes[c] for c in group)

    x = b.reshape(
        x.permute(p.index(c) for c in batch + rows + inner), (*(sizes[c] for c in batch), size(rows), size(inner))
    )
    y = b.reshape(
        y.permute(q.index(c) for c in batch + inner + columns), (*(sizes[c] for c in batch), size(inner), size(columns))
    )
    order = batch + rows + columns
    return "".join(order), b.reshape(product(b, x, y), [sizes[c] for c in order])
