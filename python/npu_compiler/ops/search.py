"""Positions in sorted lists, and membership, by comparison with all elements."""

from __future__ import annotations

from typing import Any

from ..errors import Refused, Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, Scalar, Tensor, lowering, promote
from .reduce import reduced
from .scatter import scatter

MOST = 2**26
"""Comparisons in one op; more would need memory out of proportion."""


def _compared(b: Builder, text: str, x: View, items: View, kind: str, dtype: str) -> View:
    """Over the last dimension of ``items``, which x gets."""
    column = x.unsqueeze(x.rank)
    if x.elements * items.shape[-1] > MOST:
        raise Unsupported(f"more than {MOST} comparisons")
    same = promote([x, items])
    if not items.shape[-1]:
        return b.full(x.shape, 0, dtype)
    hit = b.map(text, "bool", compute="int64" if same == "bool" else same, x=column, y=items)
    return reduced(b, hit, kind, [hit.rank - 1], dtype).drop(hit.rank - 1)


def _positions(b: Builder, items: View, x: View, right: bool, out_int32: bool) -> View:
    if x.dtype != items.dtype:
        raise Unsupported(f"positions of {x.dtype} among {items.dtype}")
    if x.dtype == "bool":
        items, x = b.cast(items, "uint8"), b.cast(x, "uint8")
    if not x.rank:
        return _positions(b, items, x.unsqueeze(0), right, out_int32).drop(0)
    before = "y <= x" if right else "y < x"
    if class_of(x.dtype) == "f":
        before = f"({before} or isnan(x))"  # NaN counts as largest
    dtype = "int32" if out_int32 else "int64"
    if items.shape[-1] <= _FEW:
        return _counted(b, before, x, items, dtype)
    last = items.rank - 1
    dims = [-1 if d == last else d for d in range(items.rank)]
    n, at = items.shape[-1], b.full((), 0, "int64").expand(x.shape)
    step = 1 << (n.bit_length() - 1)
    while step:
        probe = b.map("min(at + step, n) - 1", "int64", at=at, step=step, n=n)
        item = b.new("gather", [items, probe], x.shape, items.dtype, axes=[last], dims=dims)
        at = b.map(f"at + step if {before} and at + step <= n else at", "int64", at=at, y=item, x=x, step=step, n=n)
        step //= 2
    return b.cast(at, dtype)


_FEW = 16  # elements that are all compared


def _counted(b: Builder, before: str, x: View, items: View, dtype: str) -> View:
    """How many of a few elements come before each of x."""
    names: dict[str, Any] = {f"y{i}": items.slice(items.rank - 1, i, 1) for i in range(items.shape[-1])}
    terms = [f"int64({before.replace('y', name)})" for name in names]
    return b.map(" + ".join(terms) or "0 * int64(x == x)", dtype, compute=x.dtype, x=x, **names)


@lowering("aten.bucketize.Tensor")
def bucketize(b: Builder, self: Tensor, boundaries: Tensor, out_int32: bool = False, right: bool = False) -> Tensor:
    return _positions(b, boundaries, self, right, out_int32)


@lowering("aten.searchsorted.Tensor")
def searchsorted(
    b: Builder,
    sorted_sequence: Tensor,
    self: Tensor,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    if sorter is not None or side not in (None, "left", "right"):
        raise Refused(f"a sorter, or the side {side!r}")
    return _positions(b, sorted_sequence, self, right or side == "right", out_int32)


@lowering("aten.isin.Tensor_Tensor")
def isin(
    b: Builder, elements: Tensor, test_elements: Tensor, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    items = b.reshape(test_elements, (test_elements.elements,))
    contained = _compared(b, "x == y", elements, items, "any", "bool")
    return b.map("not contained", "bool", contained=contained) if invert else contained


@lowering("aten.isin.Tensor_Scalar")
def isin_number(
    b: Builder, elements: Tensor, test_element: Scalar, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    return b.map("x != y" if invert else "x == y", "bool", x=elements, y=test_element)


@lowering("aten.one_hot.default")
def one_hot(b: Builder, self: Tensor, num_classes: int = -1) -> Tensor:
    if num_classes < 0:
        raise Refused("the number of classes is known only at run time")
    nothing = b.full((), 0, "int64").expand((*self.shape, num_classes))
    # Written, not compared: an index out of range is an error.
    return scatter(b, nothing, self.rank, self.unsqueeze(self.rank), value=1)
