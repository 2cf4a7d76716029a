"""Matrix products of every rank."""

from __future__ import annotations

import math

from ..errors import Refused, Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, Scalar, Tensor, broadcast, dim_of, lowering
from .cat import concatenate
from .map import mul
from .reduce import sum_
from .views import diagonal


def product(b: Builder, x: View, y: View, bias: View | None = None) -> View:
    """``x @ y + bias`` for ranks of at least 2; batch dimensions are broadcast."""
    if x.dtype != y.dtype or x.dtype == "bool":
        raise Unsupported(f"a product of {x.dtype} and {y.dtype}")
    if x.shape[-1] != y.shape[-2]:
        raise Unsupported(f"a product of {list(x.shape)} and {list(y.shape)}")
    lead = broadcast(x.shape[:-2], y.shape[:-2])
    shape = (*lead, x.shape[-2], y.shape[-1])
    if class_of(x.dtype) == "i" and bias is not None:
        return b.map("x + y", x.dtype, x=product(b, x, y), y=bias)
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


@lowering("aten.dot.default", "aten.vdot.default")
def dot(b: Builder, self: Tensor, tensor: Tensor | None = None, other: Tensor | None = None) -> Tensor:
    y = tensor if other is None else other
    if y is None or y.rank != 1 or self.rank != 1:
        raise Unsupported("an inner product of other than two vectors")
    return matmul(b, self, y)


@lowering("aten.inner.default")
def inner(b: Builder, self: Tensor, other: Tensor) -> Tensor:
    if not self.rank or not other.rank:
        return b.map("x * y", self.dtype, x=self, y=other)
    return tensordot(b, self, other, [self.rank - 1], [other.rank - 1])


@lowering("aten.tensordot.default")
def tensordot(b: Builder, self: Tensor, other: Tensor, dims_self: list[int], dims_other: list[int]) -> Tensor:
    names = iter(_LETTERS)
    p, q = [next(names) for _ in self.shape], [next(names) for _ in other.shape]
    for i, j in zip(dims_self, dims_other, strict=True):
        q[j] = p[i]
    result = [c for c in p if c not in q] + [c for c in q if c not in p]
    return einsum(b, f"{''.join(p)},{''.join(q)}->{''.join(result)}", [self, other])


@lowering("aten.bilinear.default")
def bilinear(b: Builder, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out = einsum(b, "...i,oij,...j->...o", [input1, weight, input2])
    return out if bias is None else b.map("x + y", out.dtype, x=out, y=bias)


@lowering("aten.linalg_multi_dot.default")
def multi_dot(b: Builder, tensors: list[Tensor]) -> Tensor:
    out = tensors[0]
    for t in tensors[1:]:
        out = matmul(b, out, t)
    return out


@lowering("aten.linalg_matrix_power.default", "aten.matrix_power.default")
def matrix_power(b: Builder, self: Tensor, n: int) -> Tensor:
    if not 0 < n <= 64:
        raise Refused(f"the matrix power {n}; expected 1 to 64")
    out, power = None, self
    while True:
        if n & 1:
            out = power if out is None else matmul(b, out, power)
        n >>= 1
        if not n:
            assert out is not None
            return out
        power = matmul(b, power, power)


@lowering("aten.linalg_vecdot.default")
def vecdot(b: Builder, x: Tensor, y: Tensor, dim: int = -1) -> Tensor:
    each = b.map("x * y", x.dtype, compute=x.dtype, x=x, y=y)
    return sum_(b, each, dim) if class_of(x.dtype) == "f" else b.cast(sum_(b, each, dim), x.dtype)


@lowering("aten.trace.default")
def trace(b: Builder, self: Tensor) -> Tensor:
    return sum_(b, diagonal(b, self))


@lowering("aten.kron.default")
def kron(b: Builder, self: Tensor, other: Tensor) -> Tensor:
    rank = max(self.rank, other.rank)
    x, y = (t.expand((*[1] * (rank - t.rank), *t.shape)) for t in (self, other))
    shape = [n * m for n, m in zip(x.shape, y.shape, strict=True)]
    for d in reversed(range(rank)):
        x, y = x.unsqueeze(d + 1), y.unsqueeze(d)
    return b.reshape(mul(b, x, y), shape)


@lowering("aten.linalg_cross.default")
def linalg_cross(b: Builder, self: Tensor, other: Tensor, dim: int = -1) -> Tensor:
    return cross(b, self, other, dim)


@lowering("aten.cross.default")
def cross(b: Builder, self: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    shape = broadcast(self.shape, other.shape)
    d = shape.index(3) if dim is None else dim_of(dim, len(shape))
    x, y = ([t.expand(shape).slice(d, i, 1) for i in range(3)] for t in (self, other))
    parts = [b.map("a * d - c * b", self.dtype, a=x[i], d=y[j], c=x[j], b=y[i]) for i, j in ((1, 2), (2, 0), (0, 1))]
    return concatenate(b, parts, d)


@lowering("aten.addr.default")
def addr(b: Builder, self: Tensor, vec1: Tensor, vec2: Tensor, beta: Scalar = 1, alpha: Scalar = 1) -> Tensor:
    return _scaled(b, outer(b, vec1, vec2), self, beta, alpha)


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
        if all(n == 1 for n in self.shape[:-1]):
            return product(b, mat1, mat2, self)
        return b.map("out + self", self.dtype, out=matmul(b, mat1, mat2), self=self)
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
    return _scaled(b, b.cast(sum_(b, total, 0), total.dtype), self, beta, alpha)


@lowering("aten.outer.default", "aten.ger.default")
def outer(b: Builder, self: Tensor, vec2: Tensor) -> Tensor:
    return mul(b, self.unsqueeze(1), vec2)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _without_dots(equation: str, tensors: list[View]) -> tuple[list[str], str]:
    """The terms and the result, with dots replaced by unused letters."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise Unsupported(f"the equation '{equation}' for {len(tensors)} tensors")
    free = [c for c in reversed(_LETTERS) if c not in equation]
    most = 0
    for k, (term, t) in enumerate(zip(terms, tensors, strict=True)):
        count = t.rank - len(term.replace("...", ""))
        if count < 0 or (count and "..." not in term):
            raise Unsupported(f"the equation '{equation}' for shapes {[list(t.shape) for t in tensors]}")
        most = max(most, count)
        terms[k] = term.replace("...", "".join(free[:count][::-1]))
    if not arrow:
        counts = "".join(terms)
        letters = sorted(c for c in set(left) - set(",.") if counts.count(c) == 1)
        return terms, "".join(free[:most][::-1]) + "".join(letters)
    return terms, result.replace("...", "".join(free[:most][::-1]))


def _diagonals(b: Builder, term: str, x: View) -> tuple[str, View]:
    """A letter that a term repeats selects a diagonal."""
    for c in term:
        while term.count(c) > 1:
            i, j = term.index(c), term.rindex(c)
            x, term = diagonal(b, x, 0, i, j), term[:i] + term[i + 1 : j] + term[j + 1 :] + c
    return term, x


@lowering("aten.einsum.default")
def einsum(b: Builder, equation: str, tensors: list[Tensor], path: list[int] | None = None) -> Tensor:
    terms, result = _without_dots(equation, tensors)
    pairs = [_diagonals(b, term, t) for term, t in zip(terms, tensors, strict=True)]
    sizes: dict[str, int] = {}
    for term, t in pairs:
        for c, n in zip(term, t.shape, strict=True):
            sizes[c] = n if sizes.get(c, 1) == 1 else sizes[c]
    pairs = [_without_ones(term, t, sizes) for term, t in pairs]
    terms, tensors = [term for term, _ in pairs], [t for _, t in pairs]
    names, x = terms[0], tensors[0]
    for i, (other, y) in enumerate(zip(terms[1:], tensors[1:], strict=True), 2):
        later = set(result).union(*terms[i:])
        names, x = _contract(b, names, x, other, y, later)
    x = _sum_away(b, names, x, set(result))[1]
    names = "".join(c for c in names if c in result)
    return x.permute(names.index(c) for c in result)


def _without_ones(term: str, x: View, sizes: dict[str, int]) -> tuple[str, View]:
    """A tensor that is broadcast along a letter is read without it: what others have along it is summed alone."""
    for d in reversed(range(x.rank)):
        if x.shape[d] == 1 != sizes[term[d]]:
            x, term = x.drop(d), term[:d] + term[d + 1 :]
    return term, x


def _sum_away(b: Builder, names: str, x: View, keep: set[str]) -> tuple[str, View]:
    axes = [d for d, c in enumerate(names) if c not in keep]
    if axes:
        x = sum_(b, x, axes)  # of integers, int64
    return "".join(c for c in names if c in keep), x


def _contract(b: Builder, p: str, x: View, q: str, y: View, later: set[str]) -> tuple[str, View]:
    """The product of two terms; ``later`` are the letters that must remain."""
    given = x.dtype, y.dtype
    p, x = _sum_away(b, p, x, later | set(q))
    q, y = _sum_away(b, q, y, later | set(p))
    if (x.dtype, y.dtype) != given:  # a sum was wider, and their product is
        x, y = b.cast(x, "int64"), b.cast(y, "int64")
    sizes = dict(zip(p + q, x.shape + y.shape, strict=True))
    batch = [c for c in p if c in q and c in later]
    inner = [c for c in p if c in q and c not in later]
    rows, columns = [c for c in p if c not in q], [c for c in q if c not in p]
    if any(x.shape[p.index(c)] != y.shape[q.index(c)] for c in batch + inner):
        raise Unsupported(f"'{p},{q}' of {list(x.shape)} and {list(y.shape)}")

    order = batch + rows + columns
    if not inner:
        sides = (x.permute(p.index(c) for c in batch + rows), y.permute(q.index(c) for c in batch + columns))
        for _ in columns:
            sides = (sides[0].unsqueeze(sides[0].rank), sides[1])
        for _ in rows:
            sides = (sides[0], sides[1].unsqueeze(len(batch)))
        return "".join(order), mul(b, *sides)

    def size(group: list[str]) -> int:
        return math.prod(sizes[c] for c in group)

    x = b.reshape(
        x.permute(p.index(c) for c in batch + rows + inner), (*(sizes[c] for c in batch), size(rows), size(inner))
    )
    y = b.reshape(
        y.permute(q.index(c) for c in batch + inner + columns), (*(sizes[c] for c in batch), size(inner), size(columns))
    )
    return "".join(order), b.reshape(product(b, x, y), [sizes[c] for c in order])
