"""Dequantisation as PyTorch's own quantisation tools write it: the ops ``quantized_decomposed``."""

from __future__ import annotations

from ..errors import Refused, Unsupported
from ..lowering import Builder, DType, Tensor, dim_of, lowering


@lowering("quantized_decomposed.dequantize_per_tensor.default")
def dequantize_per_tensor(
    b: Builder,
    input: Tensor,
    scale: float,
    zero_point: int,
    quant_min: int,
    quant_max: int,
    dtype: DType,
    out_dtype: DType | None = None,
) -> Tensor:
    return b.map("(q - z) * s", out_dtype or "float32", compute="float32", q=input, z=zero_point, s=scale)


@lowering("quantized_decomposed.dequantize_per_channel.default")
def dequantize_per_channel(
    b: Builder,
    input: Tensor,
    scales: Tensor,
    zero_points: Tensor | None,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: DType,
    out_dtype: DType | None = None,
) -> Tensor:
    out, axis = out_dtype or "float32", dim_of(axis, input.rank)
    channels = [n if d == axis else 1 for d, n in enumerate(input.shape)]
    scale, zero = b.reshape(scales, channels), None if zero_points is None else b.reshape(zero_points, channels)
    if axis == input.rank - 1 or input.dtype not in ("int8", "uint8"):
        if zero is None:
            return b.map("q * s", out, compute="float32", q=input, s=scale)
        return b.map("(q - z) * s", out, compute="float32", q=input, z=zero, s=scale)
    rows = (*input.shape[:-1], 1)
    bits = _bits(input, quant_min, quant_max)
    return _dequantize(b, input, scale.expand(rows), None if zero is None else zero.expand(rows), 0, bits, out)


@lowering("quantized_decomposed.dequantize_per_channel_group.default")
def dequantize_per_channel_group(
    b: Builder,
    input: Tensor,
    scales: Tensor,
    zero_points: Tensor | None,
    quant_min: int,
    quant_max: int,
    dtype: DType,
    group_size: int,
    output_dtype: DType,
) -> Tensor:
    if input.dtype not in ("int8", "uint8") or input.rank != 2:
        raise Unsupported(f"groups of {input.dtype}{list(input.shape)}; expected a matrix of int8 or uint8")
    if group_size < 1:
        raise Refused(f"groups of {group_size}")
    columns, depth = input.shape
    group = min(group_size, depth)
    if group < 1 or depth % group:
        raise Unsupported(f"rows of {depth} in groups of {group_size}")
    groups = (columns, depth // group)
    scale, zero = b.reshape(scales, groups), None if zero_points is None else b.reshape(zero_points, groups)
    return _dequantize(b, input, scale, zero, group, _bits(input, quant_min, quant_max), output_dtype)


def _bits(input: Tensor, low: int, high: int) -> int:
    """How many bits integers between these limits need, as far as rows of them end at a whole byte."""
    fours = (-8, 7) if input.dtype == "int8" else (0, 15)
    return 4 if fours[0] <= low and high <= fours[1] and input.shape[-1] % 2 == 0 else 8


def _dequantize(
    b: Builder, input: Tensor, scales: Tensor, zero_points: Tensor | None, group: int, bits: int, out: str
) -> Tensor:
    """One integer of a byte becomes one of ``bits`` bits of a row: of weights, once."""
    q = b.cast(input, "uint8")  # the same bits
    if bits == 4:
        last = input.rank - 1
        half = input.shape[last] // 2
        low, high = (input.slice(last, first, half, 2) for first in (0, 1))
        q = b.cast(b.map("(x & 15) | ((y & 15) << 4)", "int64", compute="int64", x=low, y=high), "uint8")
    offsets = None if zero_points is None else b.cast(zero_points, "float32")
    attrs = {
        "bits": bits,
        "group": group,
        "offset": "none" if offsets is None else "point",
        "signed_integers": input.dtype == "int8",
    }
    return b.new("dequantize", [q, scales, offsets], input.shape, out, **attrs)
