"""Pooling over windows of one to three spatial dimensions."""

from __future__ import annotations

from ..errors import Refused, Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, Tensor, lowering, spread

Sizes = int | list[int]
NARROW = ("uint8", "int8", "int16")


def _extent(n: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> int:
    room = n + 2 * padding - dilation * (kernel - 1) - 1
    out = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (out - 1) * stride >= n + padding:  # the last window must start inside the input or the left padding
        out -= 1
    if out < 1:
        raise Unsupported(f"a window of {kernel} does not fit {n} elements")
    return out


def _pool(
    b: Builder,
    n: int,
    x: View,
    kind: str,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
    indices: bool = False,
    **attrs: int | bool,
) -> list[View]:
    if x.dtype in NARROW and kind == "max":  # float32 holds them exactly
        pooled = _pool(b, n, b.cast(x, "float32"), kind, kernel_size, stride, padding, dilation, ceil_mode, indices)
        return [b.cast(pooled[0], x.dtype), *pooled[1:]]
    if class_of(x.dtype) != "f":
        raise Unsupported(f"pooling of {x.dtype}")
    lone = x.rank == n + 1
    x = x.unsqueeze(0) if lone else x
    kernel = spread(kernel_size, n)
    steps = spread(stride, n) if stride is not None and stride != [] else kernel
    pads, spacing = spread(padding, n), spread(dilation, n)
    shape = [
        *x.shape[:2],
        *(_extent(*args, ceil_mode) for args in zip(x.shape[2:], kernel, steps, pads, spacing, strict=True)),
    ]
    outs = [b.temp(shape, x.dtype)] + ([b.temp(shape, "int64")] if indices else [])
    b.emit("pool", [x], outs, kind=kind, kernel=kernel, stride=steps, padding=pads, dilation=spacing, **attrs)
    return [o.drop(0) for o in outs] if lone else list(outs)


def _register(n: int) -> None:
    @lowering(f"aten.max_pool{n}d.default")
    def max_pool(
        b: Builder,
        self: Tensor,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
    ) -> Tensor:
        if stride is None:
            stride = []
        return _pool(b, n, self, "max", kernel_size, stride, padding, dilation, ceil_mode)[0]

    @lowering(f"aten.max_pool{n}d_with_indices.default")
    def max_pool_indices(
        b: Builder,
        self: Tensor,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
    ) -> list[Tensor]:
        if stride is None:
            stride = []
        return _pool(b, n, self, "max", kernel_size, stride, padding, dilation, ceil_mode, indices=True)

    @lowering(f"aten.avg_pool{n}d.default")
    def avg_pool(
        b: Builder,
        self: Tensor,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:
        if stride is None:
            stride = []
        if divisor_override == 0:
            raise Refused("divisor_override 0")
        mean = _pool(b, n, self, "avg", kernel_size, stride, padding, 1, ceil_mode, count_padding=count_include_pad,
                     divisor=abs(divisor_override or 0))[0]  # fmt: skip
        return b.map("-x", mean.dtype, x=mean) if (divisor_override or 0) < 0 else mean

    private = [f"aten._adaptive_avg_pool{n}d.default"] if n > 1 else []

    @lowering(f"aten.adaptive_avg_pool{n}d.default", *private)
    def adaptive_avg(b: Builder, self: Tensor, output_size: Sizes) -> Tensor:
        return _adaptive(b, n, self, "avg", output_size)[0]

    @lowering(f"aten.adaptive_max_pool{n}d.default")
    def adaptive_max(b: Builder, self: Tensor, output_size: Sizes) -> list[Tensor]:
        return _adaptive(b, n, self, "max", output_size)


def _adaptive(b: Builder, n: int, x: View, kind: str, output_size: Sizes) -> list[View]:
    if class_of(x.dtype) != "f":
        raise Unsupported(f"pooling of {x.dtype}")
    lone = x.rank == n + 1
    x = x.unsqueeze(0) if lone else x
    sizes = [x.shape[2 + i] if s is None else s for i, s in enumerate(spread(output_size, n))]
    shape = [*x.shape[:2], *sizes]
    outs = [b.temp(shape, x.dtype)] + ([b.temp(shape, "int64")] if kind == "max" else [])
    b.emit("adaptive_pool", [x], outs, kind=kind)
    return [o.drop(0) for o in outs] if lone else list(outs)


for _n in (1, 2, 3):
    _register(_n)
