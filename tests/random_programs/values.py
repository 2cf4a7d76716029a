"""Values, views of them, and what is known of their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from npu_compiler.reference import dtype_of

Array = np.ndarray
FLOATS = ("float32", "float16", "bfloat16")
INTEGERS = ("int32", "int64", "int8", "int16", "uint8")
DTYPES = (*FLOATS, *INTEGERS, "bool")
SIGNIFICANT = {"float32": 24, "float16": 11, "bfloat16": 8}


class Unsuitable(Exception):
    """No op of this kind can be made of what was chosen."""


class Choose:
    """Where choices come from: ``integer(low, high)`` is asked for each, and lower ones make simpler programs."""

    def __init__(self, integer: Callable[[int, int], int]) -> None:
        self.int = integer

    def pick(self, items: Sequence[Any]) -> Any:
        return items[self.int(0, len(items) - 1)]

    def one_in(self, n: int) -> bool:
        return self.int(0, n - 1) == n - 1

    def order(self, n: int) -> list[int]:
        left = list(range(n))
        return [left.pop(self.int(0, len(left) - 1)) for _ in range(n)]

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.int(0, 2**16))


@dataclass(eq=False)
class Value:
    """``tolerance`` bounds how far each of its numbers may be off; 0: they are exact."""

    id: int
    dtype: str
    array: Array
    source: str  # "input", "weight", "constant", "prepare" or "main"
    tolerance: float = 0.0
    read: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape


@dataclass(frozen=True)
class View:
    value: Value
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def dtype(self) -> str:
        return self.value.dtype

    @property
    def is_whole(self) -> bool:
        return (self.shape, self.strides, self.offset) == (self.value.shape, dense(self.value.shape), 0)

    @property
    def array(self) -> Array:
        return strided(self.value.array, self.shape, self.strides, self.offset)

    @property
    def json(self) -> Any:
        if self.is_whole:
            return self.value.id
        return [self.value.id, list(self.shape), list(self.strides), self.offset]


def strided(x: Array, shape: Sequence[int], strides: Sequence[int], offset: int) -> Array:
    if not math.prod(shape):
        return np.zeros(shape, x.dtype)
    size = x.itemsize
    return np.lib.stride_tricks.as_strided(x.reshape(-1)[offset:], shape, [s * size for s in strides])


def dense(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def whole(value: Value) -> View:
    return View(value, value.shape, dense(value.shape))


def a_view(c: Choose, value: Value) -> View:
    """What a program may read of a value: mostly what tensors are indexed by, sometimes any strides."""
    view = whole(value)
    while c.one_in(2):
        view = _step(c, view)
    return view


def _step(c: Choose, view: View) -> View:
    shape, strides, offset, rank = list(view.shape), list(view.strides), view.offset, len(view.shape)
    kind = c.int(0, 6)
    if kind == 0 and rank:  # permuted
        order = c.order(rank)
        shape, strides = [shape[d] for d in order], [strides[d] for d in order]
    elif kind == 1 and rank and shape[d := c.int(0, rank - 1)]:  # a slice
        start, step = c.int(0, shape[d] - 1), c.int(1, 3)
        count = c.int(0 if c.one_in(8) else 1, -(-(shape[d] - start) // step))
        shape[d], offset, strides[d] = count, offset + start * strides[d], strides[d] * step
    elif kind == 2 and rank and shape[d := c.int(0, rank - 1)]:  # flipped
        offset, strides[d] = offset + (shape[d] - 1) * strides[d], -strides[d]
    elif kind == 3 and rank < 4:  # repeated
        d = c.int(0, rank)
        shape.insert(d, c.int(1, 3))
        strides.insert(d, 0)
    elif kind == 4 and rank > 1 and shape[d := c.int(0, rank - 1)]:  # one of them
        offset += c.int(0, shape[d] - 1) * strides[d]
        del shape[d], strides[d]
    elif kind == 5 and rank > 1 and view.is_whole:
        return View(view.value, (math.prod(shape),), (1,), offset)
    elif kind == 6 and math.prod(shape):
        found = view_of_shape(c, view.value, [c.int(1, 4) for _ in range(c.int(0, 4))])
        return found or view
    if math.prod(shape) > 400:
        return view
    return View(view.value, tuple(shape), tuple(strides), offset if math.prod(shape) else 0)


def view_of_shape(c: Choose, value: Value, shape: Sequence[int]) -> View | None:
    """A view of that shape: the value itself if it can be, else wherever strides lead inside of it."""
    shape, elements = tuple(shape), value.array.size
    if value.shape == shape and not c.one_in(4):
        return whole(value)
    if not math.prod(shape):
        return View(value, shape, dense(shape), 0)
    if not elements:
        return None
    if math.prod(shape) == elements and not c.one_in(3):
        return View(value, shape, dense(shape))
    strides, left, offset = [0] * len(shape), elements - 1, 0
    for d in c.order(len(shape)):
        if shape[d] == 1:
            continue
        most = left // (shape[d] - 1)
        strides[d] = min(most, c.pick((1, 0, 2, most, math.prod(shape[d + 1 :]))))
        left -= strides[d] * (shape[d] - 1)
        if c.one_in(4):
            offset += strides[d] * (shape[d] - 1)
            strides[d] = -strides[d]
    return View(value, shape, tuple(strides), offset + c.int(0, left))


def numbers(c: Choose, dtype: str, shape: Sequence[int], low: int = -4, high: int = 4) -> Array:
    """Small numbers with few digits, so that sums and products of some are exact; at times odd ones among them."""
    rng, kind = c.rng(), c.int(0, 7)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype in INTEGERS:
        limits = np.iinfo(dtype)
        low = max(low, limits.min)
        x = rng.integers(low, high, shape, endpoint=True)
        if kind == 7:
            x = np.where(rng.random(shape) < 0.3, rng.choice([limits.min, limits.max], shape), x)
        return x.astype(dtype)
    x = rng.integers(4 * low, 4 * high, shape, endpoint=True) / 4
    if kind >= 6:
        odd = [-0.0, math.nan, math.inf, -math.inf] if kind == 7 else [-0.0, 0.0, 0.5, 300.0]
        x = np.where(rng.random(shape) < 0.2, rng.choice(odd, shape), x)
    return x.astype(dtype_of(dtype))


def finite(*arrays: Array) -> bool:
    return all(bool(np.isfinite(x.astype(np.float64)).all()) for x in arrays)


def digits(x: Array) -> tuple[float, float]:
    """The largest magnitude and the largest power of two that divides all numbers."""
    x = x.astype(np.float64)
    x = np.abs(x[np.isfinite(x) & (x != 0)])
    if not x.size:
        return 0.0, 1.0
    mantissa, exponent = np.frexp(x)
    whole_mantissa = (mantissa * 2.0**53).astype(np.int64)
    zeros = np.log2((whole_mantissa & -whole_mantissa).astype(np.float64))
    return float(x.max()), float(2.0 ** (exponent - 53 + zeros).min())


def sums_exactly(count: int, *factors: Array, bits: int = 24) -> bool:
    """Whether ``count`` products of such factors have a sum that is exact in any order."""
    peak, grain = float(count), 1.0
    for x in factors:
        most, least = digits(x)
        peak, grain = peak * most, grain * least
    return peak / grain <= 2.0**bits and peak < 2.0**100 and grain > 2.0**-100
