"""Convolutions. A transposed one is a convolution of the dilated input with the reversed kernel."""

from __future__ import annotations

from ..errors import Refused, Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, Tensor, lowering, spread


def convolve(
    b: Builder,
    x: View,
    weight: View,
    bias: View | None,
    stride: int | list[int],
    padding: int | str | list[int],
    dilation: int | list[int],
    groups: int,
    transposed: bool = False,
    output_padding: int | list[int] = 0,
) -> View:
    n = weight.rank - 2
    if not 1 <= n <= 3:
        raise Unsupported(f"{n} spatial dimensions")
    if class_of(x.dtype) != "f" or x.dtype != weight.dtype:
        raise Unsupported(f"a convolution of {x.dtype} with {weight.dtype}")
    if x.rank == n + 1:
        lone = convolve(b, x.unsqueeze(0), weight, bias, stride, padding, dilation, groups, transposed, output_padding)
        return lone.drop(0)
    strides, spacing, kernel = spread(stride, n), spread(dilation, n), weight.shape[2:]
    reach = [d * (k - 1) for d, k in zip(spacing, kernel, strict=True)]
    if padding == "same":
        low = [r // 2 for r in reach]
        high = [r - p for r, p in zip(reach, low, strict=True)]
    elif isinstance(padding, str):
        if padding != "valid":
            raise Refused(f"padding {padding!r}")
        low = high = [0] * n
    else:
        low = high = spread(padding, n)
    gaps = [1] * n
    if transposed:
        weight = _turned(b, weight, groups)
        extra = spread(output_padding, n)
        low, high = ([r - p for r, p in zip(reach, side, strict=True)] for side in (low, high))
        high = [h + e for h, e in zip(high, extra, strict=True)]
        gaps, strides = strides, [1] * n
    shape = [x.shape[0], weight.shape[0]]
    for i in range(n):
        padded = (x.shape[2 + i] - 1) * gaps[i] + 1 + low[i] + high[i]
        shape.append((padded - reach[i] - 1) // strides[i] + 1)
    if x.shape[1] != weight.shape[1] * groups or min(shape) < 0:
        raise Unsupported(f"input {list(x.shape)} with a weight {list(weight.shape)} in {groups} groups")
    return b.new(
        "conv",
        [x, weight, bias],
        shape,
        x.dtype,
        stride=strides,
        padding_low=list(low),
        padding_high=list(high),
        dilation=spacing,
        input_dilation=gaps,
        groups=groups,
    )


def _turned(b: Builder, weight: View, groups: int) -> View:
    """[C, O / groups, kernel...] as [O, C / groups, kernel reversed...]."""
    c, o, *kernel = weight.shape
    for d, k in enumerate(kernel, 2):
        weight = weight.slice(d, k - 1, k, -1)
    if groups == 1:
        return weight.transpose(0, 1)
    split = b.reshape(weight, (groups, c // groups, o, *kernel)).transpose(1, 2)
    return b.reshape(split, (groups * o, c // groups, *kernel))


@lowering(
    "aten.conv1d.default",
    "aten.conv2d.default",
    "aten.conv3d.default",
    "aten.conv1d.padding",
    "aten.conv2d.padding",
    "aten.conv3d.padding",
)
def conv(
    b: Builder,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | list[int] = 1,
    padding: int | str | list[int] = 0,
    dilation: int | list[int] = 1,
    groups: int = 1,
) -> Tensor:
    return convolve(b, input, weight, bias, stride, padding, dilation, groups)


@lowering("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
def conv_transpose(
    b: Builder,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | list[int] = 1,
    padding: int | list[int] = 0,
    output_padding: int | list[int] = 0,
    groups: int = 1,
    dilation: int | list[int] = 1,
) -> Tensor:
    return convolve(b, input, weight, bias, stride, padding, dilation, groups, True, output_padding)


@lowering("aten.convolution.default", "aten._convolution.default")
def convolution(
    b: Builder,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    benchmark: bool = False,
    deterministic: bool = False,
    cudnn_enabled: bool = False,
    allow_tf32: bool = False,
) -> Tensor:
    return convolve(b, input, weight, bias, stride, padding, dilation, groups, transposed, output_padding)
