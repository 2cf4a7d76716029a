"""Matrix products of every rank."""

from __future__ import annotations

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


@lowering("aten.matmul.default", "aten.mm.default", "aten.bmm.default", "aten.mv.default", "aten.dot.default")
def matmul(b: Builder, self: Tensor, other: Tensor | None = None, mat2: Tensor | None = None, vec: Tensor | None = None,
           tensor: Tensor | None = None) -> Tensor:  # fmt: skip
    y = next((t for t in (other, mat2, vec, tensor) if t is not None), None)
    if y is None or not self.rank or not y.rank:
        raise Unsupported("a product needs two tensors of rank 1 or more")
    x, row, column = self, self.rank == 1, y.rank == 1
    x, y = (x.unsqueeze(0) if row else x), (y.unsqueeze(1) if column else y)
    out = product(b, x, y)
    out = out.drop(out.rank - 1) if column else out
    return out.drop(out.rank - (1 if column else 2)) if row else out


@lowering("aten.linear.default")
def linear(b: Builder, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if weight.rank == 1:
        return matmul(b, input, weight)
    x = input if input.rank > 1 else input.unsqueeze(0)
    out = product(b, x, weight.transpose(0, 1), bias)
    return out if input.rank > 1 else out.drop(0)


def _scaled(b: Builder, out: View, self: View, beta: Scalar, alpha: Scalar) -> View:
    return b.map("out * alpha + self * beta" if beta else "out * alpha", out.dtype, out=out, self=self, alpha=alpha, beta=beta)


@lowering("aten.addmm.default", "aten.baddbmm.default", "aten.addmv.default")
def addmm(b: Builder, self: Tensor, mat1: Tensor | None = None, mat2: Tensor | None = None, batch1: Tensor | None = None,
          batch2: Tensor | None = None, mat: Tensor | None = None, vec: Tensor | None = None, beta: Scalar = 1,
          alpha: Scalar = 1) -> Tensor:  # fmt: skip
    given = [t for t in (mat1, mat2, batch1, batch2, mat, vec) if t is not None]
    if len(given) != 2:
        raise Unsupported("two factors are needed")
    x, y = given
    if y.rank == 1:
        return _scaled(b, matmul(b, x, y), self, beta, alpha)
    if beta == 1 and alpha == 1 and self.dtype == x.dtype:
        return product(b, x, y, self)
    return _scaled(b, product(b, x, y), self, beta, alpha)


@lowering("aten.outer.default")
def outer(b: Builder, self: Tensor, vec2: Tensor) -> Tensor:
    return b.map("x * y", self.dtype, x=self.unsqueeze(1), y=vec2)
