"""Small integers in bytes: what lies in files, and the order of bits that ``npu_base.quantization`` defines."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Bytes", "Floats", "pack_rows", "unpack_rows", "with_flipped_signs", "without_tail"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[Any]  # float16, bfloat16 or float32


def pack_rows(values: npt.NDArray[Any], bits: int) -> Bytes:
    """Integers from 0 to 2^bits - 1 along the last dimension, as a string of bits for each row."""
    values = np.asarray(values, np.uint8)
    depth = values.shape[-1]
    if bits == 8:
        return np.ascontiguousarray(values)
    if 8 % bits == 0:
        per_byte = 8 // bits
        packed = np.zeros((*values.shape[:-1], -(-depth // per_byte)), np.uint8)
        for i in range(per_byte):
            part = values[..., i::per_byte]
            packed[..., : part.shape[-1]] |= part << np.uint8(i * bits)
        return packed
    # Rare widths, by way of single bits.
    single = (values[..., None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(single.reshape(*values.shape[:-1], depth * bits), axis=-1, bitorder="little")


def unpack_rows(packed: Bytes, bits: int, depth: int) -> Bytes:
    """The integers of ``pack_rows``."""
    if bits == 8:
        return packed[..., :depth]
    if 8 % bits == 0:
        per_byte, mask = 8 // bits, np.uint8((1 << bits) - 1)
        values = np.empty((*packed.shape[:-1], packed.shape[-1] * per_byte), np.uint8)
        for i in range(per_byte):
            values[..., i::per_byte] = (packed >> np.uint8(i * bits)) & mask
        return values[..., :depth]
    single = np.unpackbits(packed, axis=-1, count=depth * bits, bitorder="little")
    single = single.reshape(*packed.shape[:-1], depth, bits)
    values = np.zeros(single.shape[:-1], np.uint8)
    for i in range(bits):
        values |= single[..., i] << np.uint8(i)
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
