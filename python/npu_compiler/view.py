"""Values, and strided views of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .errors import Unsupported

Shape = tuple[int, ...]

__all__ = ["Shape", "Value", "View", "dense_strides", "remap", "same", "whole"]


def dense_strides(shape: Iterable[int]) -> Shape:
    return _dense_strides(tuple(shape))


@lru_cache(maxsize=4096)
def _dense_strides(shape: Shape) -> Shape:
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= max(int(extent), 1)  # NumPy's integers find the same entry
    return tuple(reversed(strides))


@dataclass(eq=False, slots=True)
class Value:
    """A dense tensor. ``kind`` is input, weight, constant or temp. Only constants have ``data``."""

    name: str
    dtype: str
    shape: Shape
    kind: str = "temp"
    data: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class View:
    """A strided view of a value. Strides and offset count elements of the value in row-major order."""

    value: Value
    shape: Shape
    strides: Shape
    offset: int = 0

    @property
    def dtype(self) -> str:
        return self.value.dtype

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def is_dense(self) -> bool:
        """Whether it is all of the value in row-major order, in any shape (strides of extents below 2 are ignored)."""
        shape, all_of_it = self.shape, self.value.shape
        if self.offset or (shape != all_of_it and math.prod(shape) != math.prod(all_of_it)):
            return False
        dense = dense_strides(shape)
        return self.strides == dense or all(
            n <= 1 or s == d for n, s, d in zip(shape, self.strides, dense, strict=True)
        )

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole value in its own shape."""
        return self.shape == self.value.shape and self.is_dense

    def of(self, value: Value) -> View:
        """The same elements of another value of the same shape."""
        return View(value, self.shape, self.strides, self.offset)

    def permute(self, order: Iterable[int]) -> View:
        order = tuple(order)
        return View(self.value, tuple(self.shape[d] for d in order), tuple(self.strides[d] for d in order), self.offset)

    def transpose(self, a: int, b: int) -> View:
        order = list(range(self.rank))
        order[a], order[b] = order[b], order[a]
        return self.permute(order)

    def slice(self, dim: int, start: int, count: int, step: int = 1) -> View:
        last = start + (count - 1) * step
        if count < 0 or (count and not (0 <= start < self.shape[dim] and 0 <= last < self.shape[dim])):
            raise Unsupported(f"elements {start} to {last} of {self.shape[dim]}")
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + (start * strides[dim] if count else 0)
        shape[dim] = count
        strides[dim] *= step
        return View(self.value, tuple(shape), tuple(strides), offset)

    def unsqueeze(self, dim: int) -> View:
        return View(
            self.value,
            (*self.shape[:dim], 1, *self.shape[dim:]),
            (*self.strides[:dim], 0, *self.strides[dim:]),
            self.offset,
        )

    def drop(self, dim: int) -> View:
        """Without dimension ``dim``, at index 0 of it."""
        return View(
            self.value,
            self.shape[:dim] + self.shape[dim + 1 :],
            self.strides[:dim] + self.strides[dim + 1 :],
            self.offset,
        )

    def expand(self, shape: Iterable[int]) -> View:
        """Broadcast to ``shape`` from the right."""
        shape = tuple(shape)
        gap = len(shape) - self.rank
        if gap < 0 or any(n not in (1, m) for n, m in zip(self.shape, shape[gap:], strict=True)):
            raise Unsupported(f"shape {list(self.shape)} broadcast to {list(shape)}")
        strides = [0] * gap + [s if n != 1 else 0 for n, s in zip(self.shape, self.strides, strict=True)]
        return View(self.value, shape, tuple(strides), self.offset)

    def reshape(self, shape: Iterable[int]) -> View | None:
        """None if strides cannot express it."""
        shape = tuple(shape)
        if math.prod(shape) != self.elements:
            return None
        if self.elements == 0:
            return View(self.value, shape, dense_strides(shape), self.offset)
        # Contiguous dimensions are merged into runs, from the last one.
        runs: list[tuple[int, int]] = []
        for n, s in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n == 1:
                continue
            if runs and s == runs[-1][0] * runs[-1][1]:
                runs[-1] = (runs[-1][0] * n, runs[-1][1])
            else:
                runs.append((n, s))
        strides: list[int] = []
        left, step = 1, 0
        queue = iter(runs)
        for n in reversed(shape):
            if n == 1:
                strides.append(0)
                continue
            if left == 1:
                left, step = next(queue)
            if left % n:
                return None
            strides.append(step)
            step *= n
            left //= n
        return View(self.value, shape, tuple(reversed(strides)), self.offset)


def whole(value: Value) -> View:
    return View(value, value.shape, dense_strides(value.shape))


def remap(view: View, target: View) -> View | None:
    """``view``, of a value whose elements lie at ``target`` (a view of the same shape), as a view of target's value.

    None if strides cannot express it.
    """
    if view.elements == 0:
        return View(target.value, view.shape, (0,) * view.rank, 0)
    runs: list[list[int]] = []  # [extent, stride in the target, stride in the old value], from the last
    dense = dense_strides(target.shape)
    for n, s, d in zip(reversed(target.shape), reversed(target.strides), reversed(dense), strict=True):
        if n == 1:
            continue
        if runs and s == runs[-1][0] * runs[-1][1]:
            runs[-1][0] *= n
        else:
            runs.append([n, s, d])
    runs.reverse()
    low, high, strides = [], [], []
    rest, offset = view.offset, target.offset
    for _, s, d in runs:
        low.append(rest // d)
        high.append(rest // d)
        offset += rest // d * s
        rest %= d
    for n, stride in zip(view.shape, view.strides, strict=True):
        if n == 1 or stride == 0:
            strides.append(0)
            continue
        k = next((k for k, (_, _, d) in enumerate(runs) if abs(stride) >= d), None)
        if k is None or stride % runs[k][2]:
            return None
        step = stride // runs[k][2]
        strides.append(step * runs[k][1])
        (high if step > 0 else low)[k] += step * (n - 1)
    if rest or any(a < 0 or b >= run[0] for a, b, run in zip(low, high, runs, strict=True)):
        return None
    return View(target.value, view.shape, tuple(strides), offset)


def same(view: View | None, want: View) -> bool:
    """Whether both have the same elements in the same order. Strides of extents below 2 do not matter."""
    if view is None or view.value is not want.value or view.shape != want.shape or view.offset != want.offset:
        return False
    return all(n <= 1 or a == b for n, a, b in zip(view.shape, view.strides, want.strides, strict=True))
