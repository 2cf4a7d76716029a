"""Unfolding windows to columns, folding them back, and max unpooling."""

from __future__ import annotations

import math

from ..errors import Unsupported
from ..graph import View
from ..lowering import Builder, Tensor, lowering
from .pad import padded
from .scatter import written


def _counts(size: list[int], kernel: list[int], dilation: list[int], stride: list[int]) -> list[int]:
    return [(s - d * (k - 1) - 1) // t + 1 for s, k, d, t in zip(size, kernel, dilation, stride, strict=True)]


@lowering("aten.im2col.default")
def im2col(
    b: Builder, self: Tensor, kernel_size: list[int], dilation: list[int], padding: list[int], stride: list[int]
) -> Tensor:
    if self.rank == 3:
        return im2col(b, self.unsqueeze(0), kernel_size, dilation, padding, stride).drop(0)
    if self.rank != 4:
        raise Unsupported(f"im2col of rank {self.rank}")
    x = padded(b, self, [padding[1], padding[1], padding[0], padding[0]], "constant")
    (n, c, *size), strides = x.shape, x.strides
    out = _counts(size, kernel_size, dilation, stride)
    if min(out) < 1:
        raise Unsupported(f"windows of {kernel_size} in {size}")
    steps = [s * d for s, d in zip(strides[2:], dilation, strict=True)] + [
        s * t for s, t in zip(strides[2:], stride, strict=True)
    ]
    windows = View(x.value, (n, c, *kernel_size, *out), (*strides[:2], *steps), x.offset)
    return b.reshape(windows, (n, c * kernel_size[0] * kernel_size[1], out[0] * out[1]))


@lowering("aten.col2im.default")
def col2im(
    b: Builder,
    self: Tensor,
    output_size: list[int],
    kernel_size: list[int],
    dilation: list[int],
    padding: list[int],
    stride: list[int],
) -> Tensor:
    if self.rank == 2:
        return col2im(b, self.unsqueeze(0), output_size, kernel_size, dilation, padding, stride).drop(0)
    n, c = self.shape[0], self.shape[1] // math.prod(kernel_size)
    size = [s + 2 * p for s, p in zip(output_size, padding, strict=True)]
    counts = _counts(size, kernel_size, dilation, stride)
    if self.rank != 3 or self.shape[1:] != (c * math.prod(kernel_size), math.prod(counts)):
        raise Unsupported(f"columns {list(self.shape)} for {counts} windows of {kernel_size}")
    row, column = (
        b.map("k * d + w * s", "int64", k=b.iota(k).unsqueeze(1), d=d, w=b.iota(w), s=s)
        for k, w, d, s in zip(kernel_size, counts, dilation, stride, strict=True)
    )
    # [kernel rows, kernel columns, rows of windows, columns of windows]
    row, column = row.unsqueeze(2).unsqueeze(1), column.unsqueeze(1).unsqueeze(0)
    position = b.map("row * width + column", "int64", row=row, width=size[1], column=column)
    index = b.reshape(position, (position.elements,)).expand((n, c, position.elements))
    zeros = b.full((), 0, self.dtype).expand((n, c, size[0] * size[1]))
    updates = b.reshape(self, (n, c, position.elements))
    full = b.reshape(written(b, zeros, updates, [index], "add", axes=[2], dims=[0, 1, -1]), (n, c, *size))
    for d in (2, 3):
        full = full.slice(d, padding[d - 2], output_size[d - 2])
    return full


def _unpool(b: Builder, x: View, indices: View, size: list[int]) -> View:
    n = len(size)
    flat, index = (b.reshape(t, (*t.shape[:-n], math.prod(t.shape[-n:]))) for t in (x, indices))
    zeros = b.full((), 0, x.dtype).expand((*flat.shape[:-1], math.prod(size)))
    axis = flat.rank - 1
    out = written(b, zeros, flat, [index], "set", axes=[axis], dims=[*range(axis), -1])
    return b.reshape(out, (*flat.shape[:-1], *size))


@lowering("aten.max_unpool2d.default")
def max_unpool2d(b: Builder, self: Tensor, indices: Tensor, output_size: list[int]) -> Tensor:
    return _unpool(b, self, indices, output_size)


@lowering("aten.max_unpool3d.default")
def max_unpool3d(
    b: Builder, self: Tensor, indices: Tensor, output_size: list[int], stride: list[int], padding: list[int]
) -> Tensor:
    return _unpool(b, self, indices, output_size)
