"""Dequantisation as PyTorch's own quantisation tools write it: the ops ``quantized_decomposed`` and ``torchao``."""

from __future__ import annotations

from ..errors import Refused, Unsupported
from ..exprs import class_of
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


@lowering("torchao.dequantize_affine.default")
def dequantize_affine(
    b: Builder,
    input: Tensor,
    block_size: list[int],
    scale: Tensor,
    zero_point: Tensor | None,
    input_dtype: DType,
    quant_min: int | float | None = None,
    quant_max: int | float | None = None,
    output_dtype: DType = "float32",
) -> Tensor:
    if input.dtype not in ("int8", "uint8") or not input.rank:
        raise Unsupported(
            f"blocks of {input.dtype}{list(input.shape)}; expected int8 or uint8 of at least one dimension"
        )
    if len(block_size) != input.rank or any(n < 1 or size % n for size, n in zip(input.shape, block_size, strict=True)):
        raise Unsupported(f"a tensor of shape {list(input.shape)} in blocks of {block_size}")
    blocks = [size // n for size, n in zip(input.shape, block_size, strict=True)]
    scales, zeros = (None if x is None else _of_rows(b, x, blocks, block_size) for x in (scale, zero_point))
    assert scales is not None
    low, high = (0, 255) if input.dtype == "uint8" else (-128, 127)
    bits = _bits(input, low if quant_min is None else quant_min, high if quant_max is None else quant_max)
    return _dequantize(b, input, scales, zeros, block_size[-1], bits, output_dtype)


def _of_rows(b: Builder, x: Tensor, blocks: list[int], block_size: list[int]) -> Tensor:
    """One number a block, repeated for each of its rows."""
    rows = list(zip(blocks[:-1], block_size[:-1], strict=True))
    per_block = b.reshape(x, [n for count, _ in rows for n in (count, 1)] + blocks[-1:])
    repeated = per_block.expand([n for pair in rows for n in pair] + blocks[-1:])
    return b.reshape(repeated, [count * size for count, size in rows] + blocks[-1:])


@lowering("aten._weight_int8pack_mm.default")
def weight_int8pack_mm(b: Builder, self: Tensor, mat2: Tensor, scales: Tensor) -> Tensor:
    columns = mat2.shape[0]
    weight = _dequantize(b, mat2, b.reshape(scales, (columns, 1)), None, 0, 8, self.dtype)
    shape = (*self.shape[:-1], columns)
    return b.new("matmul", [self, weight.transpose(0, 1)], shape, self.dtype)


@lowering("quantized_decomposed.quantize_per_tensor.default")
def quantize_per_tensor(
    b: Builder, input: Tensor, scale: float, zero_point: int, quant_min: int, quant_max: int, dtype: DType
) -> Tensor:
    rounded = "min(max(round(x * inverse) + z, low), high)"
    return b.map(
        rounded, dtype, compute="float32", x=input, inverse=1.0 / scale, z=zero_point, low=quant_min, high=quant_max
    )


def _bits(input: Tensor, low: float, high: float) -> int:
    """How many bits integers between these limits need, as far as rows of them end at a whole byte."""
    fours = (-8, 7) if input.dtype == "int8" else (0, 15)
    return 4 if fours[0] <= low and high <= fours[1] and input.shape[-1] % 2 == 0 else 8


def _dequantize(
    b: Builder, input: Tensor, scales: Tensor, zero_points: Tensor | None, group: int, bits: int, out: str
) -> Tensor:
    """One integer of a byte becomes one of ``bits`` bits of a row: of weights, once."""
    if class_of(out) != "f":
        raise Unsupported(f"numbers in {out}; expected a floating-point dtype")
    q = b.cast(input, "uint8")  # the same bits
    if bits == 4:
        last = input.rank - 1
        half = input.shape[last] // 2
        low, high = (input.slice(last, first, half, 2) for first in (0, 1))
        q = b.cast(b.map("(x & 15) | ((y & 15) << 4)", "int64", compute="int64", x=low, y=high), "uint8")
    offsets = None if zero_points is None else b.cast(zero_points, "float32")
    attrs = {
        "bits": bits,
        "group": 0 if group == input.shape[-1] else group,
        "offset": "none" if offsets is None else "point",
        "signed_integers": input.dtype == "int8",
    }
    return b.new("dequantize", [q, scales, offsets], input.shape, out, **attrs)
