"""Small integers in bytes: what lies in files, and the order of bits that ``npu_base.quantization`` defines."""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Bytes", "Floats", "pack_rows", "unpack_rows", "with_flipped_signs", "without_tail"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[Any]  # float16, bfloat16 or float32


def _unit(bits: int) -> tuple[int, int]:
    """The number of integers that fill whole bytes, and of those bytes."""
    count = 8 // gcd(bits, 8)
    return count, bits * count // 8


def pack_rows(values: npt.NDArray[Any], bits: int) -> Bytes:
    """Integers from 0 to 2^bits - 1 along the last dimension, as a string of bits for each row."""
    values = np.asarray(values, np.uint8)
    if bits == 8:
        return np.ascontiguousarray(values)
    depth, (count, size) = values.shape[-1], _unit(bits)
    packed = np.zeros((*values.shape[:-1], -(-depth // count) * size), np.uint8)
    for i in range(count):
        part = values[..., i::count]
        byte, shift = divmod(i * bits, 8)
        packed[..., byte::size][..., : part.shape[-1]] |= part << np.uint8(shift)
        if shift + bits > 8:
            packed[..., byte + 1 :: size][..., : part.shape[-1]] |= part >> np.uint8(8 - shift)
    return np.ascontiguousarray(packed[..., : -(-depth * bits // 8)])


def unpack_rows(packed: Bytes, bits: int, depth: int) -> Bytes:
    """The integers of ``pack_rows``."""
    if bits == 8:
        return packed[..., :depth]
    count, size = _unit(bits)
    values, mask = np.zeros((*packed.shape[:-1], depth), np.uint8), np.uint8((1 << bits) - 1)
    for i in range(min(count, depth)):
        part = values[..., i::count]
        byte, shift = divmod(i * bits, 8)
        part |= packed[..., byte::size][..., : part.shape[-1]] >> np.uint8(shift)
        if shift + bits > 8:
            part |= packed[..., byte + 1 :: size][..., : part.shape[-1]] << np.uint8(8 - shift)
        part &= mask
    return values


def with_flipped_signs(packed: Bytes, bits: int, depth: int) -> Bytes:
    """Of integers that were stored with 2^(bits - 1) added, those in two's complement. Zeros at the end stay zeros."""
    if bits == 8:
        return packed ^ np.uint8(0x80)
    top = pack_rows(np.full(depth, 1 << (bits - 1), np.uint8), bits)
    return packed ^ top


def without_tail(packed: Bytes, bits: int, depth: int) -> Bytes:
    """With zeros after the last integer of a row."""
    used = depth * bits % 8
    if not used or not packed.size or not (packed[..., -1] >> np.uint8(used)).any():
        return packed
    packed = packed.copy()
    packed[..., -1] &= np.uint8((1 << used) - 1)
    return packed
