"""GGUF files, written number by number as the format's document and ggml's comments say."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["KINDS", "Kind", "Tensor", "gguf_bytes", "write_gguf"]

Array = np.ndarray[Any, Any]
_ALIGNMENT = 32


@dataclass(frozen=True)
class Tensor:
    """``shape`` has the depth last; files have it first."""

    kind: int
    shape: Sequence[int]
    data: bytes


@dataclass(frozen=True)
class Kind:
    """``write`` draws a row of numbers: its bytes, and what they stand for in float64."""

    name: str
    number: int
    elements: int
    write: Callable[[np.random.Generator], tuple[bytes, list[float]]]

    def tensor(self, rng: np.random.Generator, rows: int, blocks: int) -> tuple[Tensor, Array]:
        drawn = [[self.write(rng) for _ in range(blocks)] for _ in range(rows)]
        data = b"".join(raw for row in drawn for raw, _ in row)
        numbers = np.array([[n for _, block in row for n in block] for row in drawn], np.float64)
        return Tensor(self.number, (rows, blocks * self.elements), data), numbers


def _half(rng: np.random.Generator) -> np.float16:
    return np.float16(rng.uniform(-0.1, 0.1))


def _plain(dtype: Any) -> Callable[[np.random.Generator], tuple[bytes, list[float]]]:
    def write(rng: np.random.Generator) -> tuple[bytes, list[float]]:
        value = np.array([rng.standard_normal()]).astype(dtype)
        return value.tobytes(), [float(value[0])]

    return write


def _q8_0(rng: np.random.Generator) -> tuple[bytes, list[float]]:
    """struct { half d; int8_t qs[32]; }: x[i] = d * qs[i]"""
    d, qs = _half(rng), rng.integers(-128, 128, 32)
    return d.tobytes() + struct.pack("<32b", *qs), [float(d) * int(q) for q in qs]


def _q4_0(rng: np.random.Generator) -> tuple[bytes, list[float]]:
    """struct { half d; uint8_t qs[16]; }: x[j] = d * ((qs[j] & 15) - 8), x[j + 16] = d * ((qs[j] >> 4) - 8)"""
    d, qs = _half(rng), [int(q) for q in rng.integers(0, 256, 16)]
    integers = [(q & 15) - 8 for q in qs] + [(q >> 4) - 8 for q in qs]
    return d.tobytes() + bytes(qs), [float(d) * q for q in integers]


def _scale_and_minimum(j: int, packed: Sequence[int]) -> tuple[int, int]:
    """get_scale_min_k4 of ggml."""
    if j < 4:
        return packed[j] & 63, packed[j + 4] & 63
    scale = (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4)
    return scale, (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4)


def _q4_k(rng: np.random.Generator) -> tuple[bytes, list[float]]:
    """struct { half d, dmin; uint8_t scales[12]; uint8_t qs[128]; }, as dequantize_row_q4_K reads it"""
    d, least = _half(rng), _half(rng)
    packed, qs = ([int(q) for q in rng.integers(0, 256, n)] for n in (12, 128))
    numbers = []
    for j in range(0, 8, 2):
        part = qs[16 * j : 16 * j + 32]
        for shift in (0, 1):
            scale, minimum = _scale_and_minimum(j + shift, packed)
            numbers += [float(d) * scale * (q >> 4 * shift & 15) - float(least) * minimum for q in part]
    return d.tobytes() + least.tobytes() + bytes(packed) + bytes(qs), numbers


def _q6_k(rng: np.random.Generator) -> tuple[bytes, list[float]]:
    """struct { uint8_t ql[128], qh[64]; int8_t scales[16]; half d; }, as dequantize_row_q6_K reads it"""
    d, scales = _half(rng), [int(s) for s in rng.integers(-128, 128, 16)]
    ql, qh = ([int(q) for q in rng.integers(0, 256, n)] for n in (128, 64))
    numbers = [0.0] * 256
    for n in range(2):
        low, high, scale, at = ql[64 * n :], qh[32 * n :], scales[8 * n :], 128 * n
        for i in range(32):
            parts = (
                (low[i] & 15) | ((high[i] >> 0 & 3) << 4), (low[i + 32] & 15) | ((high[i] >> 2 & 3) << 4),
                (low[i] >> 4) | ((high[i] >> 4 & 3) << 4), (low[i + 32] >> 4) | ((high[i] >> 6 & 3) << 4),
            )  # fmt: skip
            for k, q in enumerate(parts):
                numbers[at + i + 32 * k] = float(d) * scale[i // 16 + 2 * k] * (q - 32)
    return bytes(ql) + bytes(qh) + struct.pack("<16b", *scales) + d.tobytes(), numbers


KINDS = [
    Kind("F32", 0, 1, _plain(np.float32)), Kind("F16", 1, 1, _plain(np.float16)),
    Kind("BF16", 30, 1, _plain(ml_dtypes.bfloat16)), Kind("Q4_0", 2, 32, _q4_0), Kind("Q8_0", 8, 32, _q8_0),
    Kind("Q4_K", 12, 256, _q4_k), Kind("Q6_K", 14, 256, _q6_k),
]  # fmt: skip


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    """With its type before it."""
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value) if value >= 0 else struct.pack("<Ii", 5, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    kind, form = (8, "") if isinstance(value[0], str) else (5, "i") if isinstance(value[0], int) else (6, "f")
    head = struct.pack("<IIQ", 9, kind, len(value))
    return head + (b"".join(map(_text, value)) if kind == 8 else struct.pack(f"<{len(value)}{form}", *value))


def gguf_bytes(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(_text(key) + _value(value) for key, value in metadata.items())
    data = b""
    for name, tensor in tensors.items():
        dims = tuple(tensor.shape)[::-1]
        head += _text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, tensor.kind, len(data))
        data += tensor.data + bytes(-len(tensor.data) % _ALIGNMENT)
    return head + bytes(-len(head) % _ALIGNMENT) + data


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    path.write_bytes(gguf_bytes(metadata, tensors))
