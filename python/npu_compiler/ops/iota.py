"""Tensors computed from numbers alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, DType, Scalar, Tensor, lowering


def _dtype_of(*numbers: Scalar) -> str:
    return "float32" if any(isinstance(n, float) for n in numbers) else "int64"


@lowering("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def arange(b: Builder, end: Scalar, start: Scalar = 0, step: Scalar = 1, dtype: DType | None = None) -> Tensor:
    dtype = dtype or _dtype_of(start, end, step)
    if class_of(dtype) == "i":
        start, end, step = int(start), int(end), int(step)
        count = -((start - end) // step)
        if max(abs(start), abs(end)) > 2**53:  # an iota counts in float64
            i = b.iota(max(count, 0))
            return b.cast(b.map("start + i * step", "int64", i=i, start=start, step=step), dtype)
    else:
        count = math.ceil((end - start) / step)
    return b.iota(max(count, 0), start, step, dtype)


@lowering("aten.linspace.default")
def linspace(b: Builder, start: Scalar, end: Scalar, steps: int, dtype: DType | None = None) -> Tensor:
    step = (end - start) / max(steps - 1, 1)
    i = b.iota(steps, dtype="int64")
    half = (steps + 1) // 2  # computed from both ends, as in PyTorch, so that the last element is exact
    text = "start + float32(i) * step if i < half else end - float32(last - i) * step"
    numbers: dict[str, Any] = {
        "start": float(start),
        "end": float(end),
        "step": float(step),
        "half": half,
        "last": steps - 1,
    }
    return b.map(text, dtype or "float32", i=i, **numbers)


@lowering(
    "aten.full.default",
    "aten.full_like.default",
    "aten.new_full.default",
    "aten.scalar_tensor.default",
    "aten.fill.Scalar",
)
def full(
    b: Builder,
    self: Tensor | None = None,
    size: list[int] | None = None,
    fill_value: Scalar | None = None,
    dtype: DType | None = None,
    s: Scalar | None = None,
    value: Scalar | None = None,
) -> Tensor:
    number = next(n for n in (fill_value, s, value) if n is not None)
    shape = size if size is not None else self.shape if self is not None else []
    if self is not None:
        dtype = dtype or self.dtype
    if s is not None:
        dtype = dtype or "float32"
    return b.full(shape, number, dtype or ("bool" if isinstance(number, bool) else _dtype_of(number)))


@lowering("aten.fill.Tensor")
def fill(b: Builder, self: Tensor, value: Tensor) -> Tensor:
    return b.cast(value, self.dtype).expand(self.shape)


def _register(word: str, number: int) -> None:
    plain = [f"aten.{word}.default"] if word != "empty" else []

    @lowering(*plain, f"aten.{word}_like.default", f"aten.new_{word}.default")
    def constant(
        b: Builder, self: Tensor | None = None, size: list[int] | None = None, dtype: DType | None = None
    ) -> Tensor:
        shape = size if size is not None else self.shape if self is not None else []
        return b.full(shape, number, dtype or (self.dtype if self is not None else "float32"))


for _word, _number in (("zeros", 0), ("ones", 1), ("empty", 0)):
    _register(_word, _number)


@lowering("aten.empty.memory_format")
def empty(b: Builder, size: list[int], dtype: DType | None = None) -> Tensor:
    return b.full(size, 0, dtype or "float32")


@lowering("aten.eye.default", "aten.eye.m")
def eye(b: Builder, n: int, m: int | None = None, dtype: DType | None = None) -> Tensor:
    rows: View = b.iota(n).unsqueeze(1)
    same = b.map("row == column", "bool", row=rows, column=b.iota(n if m is None else m))
    return b.cast(same, dtype or "float32")


@lowering("aten.zero.default")
def zero(b: Builder, self: Tensor) -> Tensor:
    return b.full(self.shape, 0, self.dtype)


@lowering("aten.logspace.default")
def logspace(
    b: Builder, start: Scalar, end: Scalar, steps: int, base: float = 10.0, dtype: DType | None = None
) -> Tensor:
    line = linspace(b, start, end, steps)
    return b.map("pow(base, x)", dtype or "float32", base=float(base), x=line)


def _register_triangle(name: str, text: str) -> None:
    @lowering(f"aten.{name}_indices.default")
    def indices(b: Builder, row: int, col: int, offset: int = 0, dtype: DType | None = None) -> Tensor:
        """The indices are known at compile time, so they are a constant."""
        pairs = [
            (r, c) for r in range(row) for c in range(col) if (c - r <= offset if text == "lower" else c - r >= offset)
        ]
        return b.constant(np.array(pairs, np.int64).reshape(-1, 2).T, dtype or "int64")


_register_triangle("tril", "lower")
_register_triangle("triu", "upper")
