"""The types of numbers in GGUF files. Quantised ones are blocks of a row; each becomes integers and scales as
``npu_base.quantization`` defines them, which stand for exactly the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from npu_base.quantization import Scheme

from npu.quantized.packing import Bytes, pack_rows
from npu.quantized.tensors import FLOATS, QuantizedTensor
from npu.quantized.threads import for_rows

__all__ = ["BLOCKS", "Block", "type_name"]

_AT_ONCE = 1 << 18  # bytes of blocks: what is made on the way is small, beside the result
_Parts = tuple[npt.NDArray[Any] | None, ...]


@dataclass(frozen=True)
class Block:
    """``elements`` numbers lie in ``bytes`` bytes. ``read`` turns blocks [rows, blocks, bytes] into packed integers,
    scales, biases and units; plain numbers have a ``dtype`` instead, and no scheme."""

    name: str
    elements: int
    bytes: int
    dtype: npt.DTypeLike | None = None
    scheme: Scheme | None = None
    read: Callable[[Bytes], _Parts] | None = None

    def tensor(self, data: Bytes, shape: tuple[int, ...]) -> npt.NDArray[Any] | QuantizedTensor:
        if self.scheme is None or self.read is None:
            return data.view(np.dtype(self.dtype)).reshape(shape)
        blocks = data.reshape(-1, shape[-1] // self.elements, self.bytes)
        scheme, groups = self.scheme, self.scheme.groups(shape[-1])
        packed = np.empty((len(blocks), scheme.row_bytes(shape[-1])), np.uint8)
        scales = np.empty((len(blocks), groups), np.int8 if scheme.unit else FLOATS[scheme.scale_dtype])
        biases = None if scheme.offset == "none" else np.empty_like(scales)
        units = np.empty((len(blocks), scheme.units(shape[-1])), FLOATS[scheme.unit_dtype]) if scheme.unit else None
        read = self.read

        def fill(part: slice) -> None:
            for whole, values in zip((packed, scales, biases, units), read(blocks[part]), strict=True):
                if whole is not None and values is not None:
                    whole[part] = values.reshape(whole[part].shape)

        for_rows(len(blocks), max(1, _AT_ONCE // (blocks.shape[1] * self.bytes)), fill)
        rows = shape[:-1]
        parts: list[Any] = [x if x is None else x.reshape(*rows, -1) for x in (packed, scales, biases, units)]
        return QuantizedTensor(scheme, shape, *parts)


def _q8_0(blocks: Bytes) -> _Parts:
    """A float16 scale, 32 signed bytes."""
    return np.ascontiguousarray(blocks[..., 2:]), _halves(blocks, 0), None, None


def _q4_0(blocks: Bytes) -> _Parts:
    """A float16 scale, and 16 bytes: element i in the low half of byte i, i + 16 in the high half, with 8 added."""
    packed = np.concatenate(_low_and_high(blocks[..., 2:]), -1)
    packed ^= np.uint8(0x88)  # in two's complement
    return packed, _halves(blocks, 0), None, None


def _q4_k(blocks: Bytes) -> _Parts:
    """Two float16 units, of 8 scales and 8 minima of 6 bits in 12 bytes; then 128 bytes: in each 32 of them the low
    halves are 32 elements, and the high halves the next."""
    packed, pairs = blocks[..., 4:16], blocks[..., 16:].reshape(*blocks.shape[:-1], 4, 32)
    low, high, rest = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scales = np.concatenate([low & 63, (rest & 15) | (low >> 6 << 4)], -1)
    minima = np.concatenate([high & 63, (rest >> 4) | (high >> 6 << 4)], -1)
    integers = np.stack(_low_and_high(pairs), -2)
    units = np.concatenate([_halves(blocks, 0), -_halves(blocks, 2)], -1)  # minima are subtracted
    return integers, scales.view(np.int8), minima.view(np.int8), units


def _q6_k(blocks: Bytes) -> _Parts:
    """128 bytes with the low four bits of 256 elements, 64 with the high two, 16 signed scales, and their float16
    unit. Of each 128 elements, 32 lie in the low halves of 32 bytes, 32 in those of the next, and so on."""
    low = blocks[..., :128].reshape(*blocks.shape[:-1], 2, 2, 32)
    high = blocks[..., 128:192].reshape(*blocks.shape[:-1], 2, 32)
    lows = np.concatenate([low & 15, low >> 4], -2)  # [..., 2, 4, 32]
    highs = np.stack([high >> 2 * i & 3 for i in range(4)], -2)
    integers = (lows | highs << 4) ^ 32  # stored with 32 added; in two's complement of 6 bits
    return pack_rows(integers, 6), blocks[..., 192:208].view(np.int8), None, _halves(blocks, 208)


def _low_and_high(pairs: Bytes) -> tuple[Bytes, Bytes]:
    """The low halves of bytes, two of them to a byte, and the high halves."""
    words = np.ascontiguousarray(pairs).view("<u2")

    def packed(halves: npt.NDArray[np.uint16]) -> Bytes:
        halves &= np.uint16(0x0F0F)
        halves |= halves >> np.uint16(4)
        return halves.astype(np.uint8)

    high = words >> np.uint16(4)
    return packed(words.copy()), packed(high)


def _halves(blocks: Bytes, at: int) -> npt.NDArray[np.float16]:
    return np.ascontiguousarray(blocks[..., at : at + 2]).view("<f2")


def _signed(bits: int, group: int, scale_dtype: str = "float16", unit: int = 0) -> Scheme:
    return Scheme(bits, group, "none", True, scale_dtype, unit=unit)


BLOCKS = {
    0: Block("F32", 1, 4, np.float32),
    1: Block("F16", 1, 2, np.float16),
    2: Block("Q4_0", 32, 18, None, _signed(4, 32), _q4_0),
    8: Block("Q8_0", 32, 34, None, _signed(8, 32), _q8_0),
    12: Block("Q4_K", 256, 144, None, Scheme(4, 32, "bias", False, "int8", "int8", 256), _q4_k),
    14: Block("Q6_K", 256, 210, None, _signed(6, 16, "int8", 256), _q6_k),
    30: Block("BF16", 1, 2, ml_dtypes.bfloat16),
}
"""By the number that ggml gives them."""

_OTHERS = {
    3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 13: "Q5_K", 15: "Q8_K", 16: "IQ2_XXS",
    17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8",
    25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4",
}  # fmt: skip


def type_name(kind: int) -> str:
    block = BLOCKS.get(kind)
    return block.name if block else _OTHERS.get(kind, f"type {kind}")
