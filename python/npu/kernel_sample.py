"""The programs that ``npu doctor --kernels`` runs: kernel_sample.bin, which tools/generate_kernel_sample.py writes.

A file compressed by zlib: four bytes with the size of a JSON text, that text, then bytes that it refers to. Tensors of
floats are drawn when a program is run, so that the file is small.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

__all__ = ["SAMPLE_FILE", "Entry", "Recipe", "pack", "read_sample"]

SAMPLE_FILE = Path(__file__).with_name("kernel_sample.bin")
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Recipe:
    """How to make a tensor: ``values``, or floats of a distribution, "normal" or "uniform", between or around a, b."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    draw: str = "values"
    a: float = 0.0
    b: float = 1.0
    values: bytes = b""

    def make(self, seed: str) -> Array:
        """The same for the same seed, with every NumPy: ``RandomState`` keeps its streams."""
        dtype = dtype_of(self.dtype)
        if self.draw == "values":
            return np.frombuffer(self.values, dtype).reshape(self.shape)
        random = np.random.RandomState(zlib.crc32(f"{seed}/{self.name}".encode()))
        draw = random.uniform if self.draw == "uniform" else random.normal
        return np.asarray(draw(self.a, self.b, self.shape)).astype(np.float32).astype(dtype)


@dataclass(frozen=True)
class Entry:
    """A program, what it takes, and how far each of its outputs may be from the exact result, relatively."""

    name: str
    dtype: str
    ops: str
    program: bytes
    inputs: tuple[Recipe, ...]
    weights: tuple[Recipe, ...]
    tolerances: tuple[float, ...]

    def make(self, recipes: tuple[Recipe, ...]) -> dict[str, Array]:
        return {recipe.name: recipe.make(self.name) for recipe in recipes}


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def pack(entries: list[Entry]) -> bytes:
    blob = bytearray()

    def keep(data: bytes) -> list[int]:
        start = len(blob)
        blob.extend(data)
        return [start, len(data)]

    def recipe(r: Recipe) -> list[Any]:
        how = [keep(r.values)] if r.draw == "values" else [r.a, r.b]
        return [r.name, r.dtype, list(r.shape), r.draw, *how]

    rows = [
        [
            e.name,
            e.dtype,
            e.ops,
            keep(e.program),
            [recipe(r) for r in e.inputs],
            [recipe(r) for r in e.weights],
            list(e.tolerances),
        ]
        for e in entries
    ]
    text = json.dumps(rows, separators=(",", ":")).encode()
    return zlib.compress(struct.pack("<I", len(text)) + text + bytes(blob), 9)


def read_sample(data: bytes | None = None) -> list[Entry]:
    raw = zlib.decompress(SAMPLE_FILE.read_bytes() if data is None else data)
    (size,) = struct.unpack_from("<I", raw)
    blob = memoryview(raw)[4 + size :]

    def part(span: list[int]) -> bytes:
        return bytes(blob[span[0] : span[0] + span[1]])

    def recipe(row: list[Any]) -> Recipe:
        name, dtype, shape, draw, *how = row
        if draw == "values":
            return Recipe(name, dtype, tuple(shape), values=part(how[0]))
        return Recipe(name, dtype, tuple(shape), draw, *how)

    return [
        Entry(name, dtype, ops, part(program), tuple(map(recipe, inputs)), tuple(map(recipe, weights)), tuple(bounds))
        for name, dtype, ops, program, inputs, weights, bounds in json.loads(raw[4 : 4 + size])
    ]
