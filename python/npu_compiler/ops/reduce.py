"""Reductions over any dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, DType, Scalar, Tensor, dim_of, dims_of, lowering

Dims = int | list[int] | None


def reduced(b: Builder, x: View, kind: str, axes: Sequence[int], dtype: str, **attrs: float) -> View:
    """Keeps the axes with extent 1."""
    b.check_dtype(x)
    if not axes or not x.rank:
        x, axes = x.unsqueeze(0), [0]
        return reduced(b, x, kind, axes, dtype, **attrs).drop(0)
    shape = [1 if d in axes else n for d, n in enumerate(x.shape)]
    return b.new("reduce", [x], shape, dtype, kind=kind, axes=list(axes), **attrs)


def squeezed(x: View, axes: Sequence[int], keepdim: bool) -> View:
    for d in sorted([] if keepdim else axes, reverse=True):
        x = x.drop(d)
    return x


def _over(b: Builder, x: View, kind: str, dim: Dims, keepdim: bool, dtype: str, **attrs: float) -> View:
    axes = dims_of(dim, x.rank)
    if not x.rank and kind in ("sum", "mean", "prod", "max", "min"):
        return b.cast(x, dtype)
    return squeezed(reduced(b, x, kind, axes, dtype, **attrs), axes, keepdim)


@lowering("aten.sum.default", "aten.sum.dim_IntList")
def sum_(b: Builder, self: Tensor, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Tensor:
    x = b.cast(self, dtype) if dtype else self
    return b.cast(
        _over(b, x, "sum", dim, keepdim, x.dtype if class_of(x.dtype) == "f" else "int64"), dtype or _wide(x.dtype)
    )


def _wide(dtype: str) -> str:
    return dtype if class_of(dtype) == "f" else "int64"


@lowering("aten.mean.default", "aten.mean.dim")
def mean(b: Builder, self: Tensor, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Tensor:
    x = b.cast(self, dtype) if dtype else self
    if class_of(x.dtype) != "f":
        raise Unsupported(f"a mean of {x.dtype}")
    return _over(b, x, "mean", dim, keepdim, x.dtype)


@lowering("aten.prod.default", "aten.prod.dim_int")
def prod(b: Builder, self: Tensor, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Tensor:
    x = b.cast(self, dtype) if dtype else self
    return b.cast(_over(b, x, "prod", dim, keepdim, _wide(x.dtype)), dtype or _wide(x.dtype))


def _extreme(b: Builder, x: View, kind: str, dim: Dims, keepdim: bool) -> View:
    if x.dtype == "bool":
        return _over(b, x, "any" if kind == "max" else "all", dim, keepdim, "bool")
    if 0 in [x.shape[d] for d in dims_of(dim, x.rank)]:
        raise Unsupported(f"the {kind} of no elements")
    return _over(b, x, kind, dim, keepdim, x.dtype)


@lowering("aten.amax.default", "aten.max.default")
def amax(b: Builder, self: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    return _extreme(b, self, "max", dim, keepdim)


@lowering("aten.amin.default", "aten.min.default")
def amin(b: Builder, self: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    return _extreme(b, self, "min", dim, keepdim)


@lowering("aten.aminmax.default")
def aminmax(b: Builder, self: Tensor, dim: Dims = None, keepdim: bool = False) -> list[Tensor]:
    return [_extreme(b, self, kind, dim, keepdim) for kind in ("min", "max")]


def _arg(b: Builder, x: View, kind: str, dim: int | None, keepdim: bool) -> View:
    if dim is None:
        flat = _arg(b, b.reshape(x, (x.elements,)), kind, 0, False)
        return b.reshape(flat, [1] * x.rank if keepdim else [])
    if not x.rank:
        return b.full((), 0, "int64")
    d = dim_of(dim, x.rank)
    if not x.shape[d]:
        raise Unsupported(f"the {kind} of no elements")
    x = b.cast(x, "uint8") if x.dtype == "bool" else x
    return squeezed(reduced(b, x, kind, [d], "int64"), [d], keepdim)


@lowering("aten.max.dim")
def max_dim(b: Builder, self: Tensor, dim: int, keepdim: bool = False) -> list[Tensor]:
    return [_extreme(b, self, "max", dim, keepdim), _arg(b, self, "argmax", dim, keepdim)]


@lowering("aten.min.dim")
def min_dim(b: Builder, self: Tensor, dim: int, keepdim: bool = False) -> list[Tensor]:
    return [_extreme(b, self, "min", dim, keepdim), _arg(b, self, "argmin", dim, keepdim)]


@lowering("aten.argmax.default")
def argmax(b: Builder, self: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return _arg(b, self, "argmax", dim, keepdim)


@lowering("aten.argmin.default")
def argmin(b: Builder, self: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return _arg(b, self, "argmin", dim, keepdim)


@lowering("aten.any.default", "aten.any.dim", "aten.any.dims")
def any_(b: Builder, self: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    return _bool_result(b, self, _over(b, self, "any", dim, keepdim, "bool"))


@lowering("aten.all.default", "aten.all.dim", "aten.all.dims")
def all_(b: Builder, self: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    return _bool_result(b, self, _over(b, self, "all", dim, keepdim, "bool"))


def _bool_result(b: Builder, x: View, result: View) -> View:
    return b.cast(result, "uint8") if x.dtype == "uint8" else result


@lowering("aten.nansum.default")
def nansum(b: Builder, self: Tensor, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Tensor:
    x = self if class_of(self.dtype) != "f" else b.map("0.0 if isnan(x) else x", self.dtype, x=self)
    return sum_(b, x, dim, keepdim, dtype)


@lowering("aten.nanmean.default")
def nanmean(b: Builder, self: Tensor, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Tensor:
    x = b.cast(self, dtype) if dtype else self
    total = nansum(b, x, dim, keepdim, "float32")
    count = _over(b, b.map("x == x", "bool", x=x), "sum", dim, keepdim, "int64")
    return b.map("t / n", x.dtype, compute="float32", t=total, n=count)


@lowering("aten.trapezoid.dx", "aten.trapz.dx")
def trapezoid(b: Builder, y: Tensor, dx: Scalar = 1, dim: int = -1) -> Tensor:
    d = dim_of(dim, y.rank)
    count = max(y.shape[d] - 1, 0)
    pairs = b.map("x + y", y.dtype, x=y.slice(d, min(1, y.shape[d]), count), y=y.slice(d, 0, count))
    return b.map("s * dx / 2", y.dtype, s=sum_(b, pairs, d), dx=float(dx))


@lowering("aten.count_nonzero.default", "aten.count_nonzero.dim_IntList")
def count_nonzero(b: Builder, self: Tensor, dim: Dims = None) -> Tensor:
    return _over(b, b.cast(self, "bool"), "sum", dim, False, "int64")


def _variance(b: Builder, kind: str, x: View, dim: Dims, correction: float | None, keepdim: bool) -> View:
    if class_of(x.dtype) != "f":
        raise Unsupported(f"a variance of {x.dtype}")
    return _over(b, x, kind, dim, keepdim, x.dtype, correction=1.0 if correction is None else float(correction))


@lowering("aten.var.correction", "aten.var.dim", "aten.var.default")
def var(
    b: Builder,
    self: Tensor,
    dim: Dims = None,
    correction: Scalar | None = None,
    keepdim: bool = False,
    unbiased: bool = True,
) -> Tensor:
    return _variance(b, "var", self, dim, correction if correction is not None else int(unbiased), keepdim)


@lowering("aten.std.correction", "aten.std.dim", "aten.std.default")
def std(
    b: Builder,
    self: Tensor,
    dim: Dims = None,
    correction: Scalar | None = None,
    keepdim: bool = False,
    unbiased: bool = True,
) -> Tensor:
    return _variance(b, "std", self, dim, correction if correction is not None else int(unbiased), keepdim)


@lowering("aten.var_mean.correction", "aten.var_mean.dim", "aten.var_mean.default")
def var_mean(
    b: Builder,
    self: Tensor,
    dim: Dims = None,
    correction: Scalar | None = None,
    keepdim: bool = False,
    unbiased: bool = True,
) -> list[Tensor]:
    return [var(b, self, dim, correction, keepdim, unbiased), mean(b, self, dim, keepdim)]


@lowering("aten.std_mean.correction", "aten.std_mean.dim", "aten.std_mean.default")
def std_mean(
    b: Builder,
    self: Tensor,
    dim: Dims = None,
    correction: Scalar | None = None,
    keepdim: bool = False,
    unbiased: bool = True,
) -> list[Tensor]:
    return [std(b, self, dim, correction, keepdim, unbiased), mean(b, self, dim, keepdim)]


@lowering(
    "aten.linalg_vector_norm.default",
    "aten.norm.ScalarOpt_dim",
    "aten.norm.Scalar",
    "aten.norm.ScalarOpt_dim_dtype",
    "aten.norm.ScalarOpt_dtype",
)
def vector_norm(
    b: Builder,
    self: Tensor,
    ord: Scalar | None = None,
    dim: Dims = None,
    keepdim: bool = False,
    dtype: DType | None = None,
    p: Scalar | None = None,
) -> Tensor:
    order = float(next((v for v in (ord, p) if v is not None), 2))
    x = b.cast(self, dtype) if dtype else self
    if class_of(x.dtype) != "f":
        raise Unsupported(f"a norm of {x.dtype}")
    if math.isinf(order):
        return _extreme(b, b.map("abs(x)", x.dtype, x=x), "max" if order > 0 else "min", dim, keepdim)
    before, after = {
        0: ("1.0 if x != 0 else 0.0", "x"), 1: ("abs(x)", "x"), 2: ("x * x", "sqrt(x)"),
    }.get(int(order) if order == int(order) else -1, ("pow(abs(x), p)", "pow(x, 1 / p)"))  # fmt: skip
    total = _over(b, b.map(before, "float32", x=x, p=order), "sum", dim, keepdim, "float32")
    return b.map(after, x.dtype, x=total, p=order) if after != "x" else b.cast(total, x.dtype)


@lowering("aten.logsumexp.default")
def logsumexp(b: Builder, self: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    x = b.cast(self, "float32") if class_of(self.dtype) != "f" else self
    axes = dims_of(dim, x.rank)
    if not x.rank:
        return x
    if 0 in x.shape:
        return squeezed(
            b.full([1 if d in axes else n for d, n in enumerate(x.shape)], -math.inf, x.dtype), axes, keepdim
        )
    peak = b.map("0.0 if isinf(m) else m", "float32", m=reduced(b, x, "max", axes, x.dtype))
    total = reduced(b, b.map("exp(x - m)", "float32", x=x, m=peak), "sum", axes, "float32")
    return squeezed(b.map("log(s) + m", x.dtype, s=total, m=peak), axes, keepdim)
