"""Softmax and its logarithm along one axis."""

from __future__ import annotations

from ..errors import Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, DType, Tensor, dim_of, lowering


def along(b: Builder, x: View, dim: int, dtype: str | None, log: bool) -> View:
    x = b.cast(x, dtype) if dtype else x
    if class_of(x.dtype) != "f":
        raise Unsupported(f"a softmax of {x.dtype}")
    if not x.rank:
        return along(b, x.unsqueeze(0), 0, None, log).drop(0)
    return b.new("softmax", [x], x.shape, x.dtype, axis=dim_of(dim, x.rank), log=log)


@lowering("aten.softmax.int")
def softmax(b: Builder, self: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    return along(b, self, dim, dtype, False)


@lowering("aten.log_softmax.int")
def log_softmax(b: Builder, self: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    return along(b, self, dim, dtype, True)


@lowering("aten._softmax.default")
def softmax_(b: Builder, self: Tensor, dim: int, half_to_float: bool) -> Tensor:
    return along(b, self, dim, "float32" if half_to_float else None, False)


@lowering("aten._log_softmax.default")
def log_softmax_(b: Builder, self: Tensor, dim: int, half_to_float: bool) -> Tensor:
    return along(b, self, dim, "float32" if half_to_float else None, True)
