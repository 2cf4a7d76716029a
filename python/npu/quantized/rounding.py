"""Rounds weights to small integers: for each group, a scale and a bias that keep the squared error small."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf, log10
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from npu.quantized.packing import Bytes, Floats
from npu.quantized.tensors import FLOATS

__all__ = ["Rounded", "as_float32", "decibels", "round_weight"]

_Float32 = npt.NDArray[np.float32]

_WIDE = (1.02, 1.0)
_RANGES = {2: (0.9, 0.7, 0.55), 3: (1.0, 0.85, 0.7), 4: (1.0, 0.92, 0.84, 0.76)}
"""Parts of a group's range that are tried, by bits; more bits cover all of it. A rounded scale may not reach the ends
of the range: so more than 1."""
_FITS = 3
"""How often scale and bias are then fitted to the integers by least squares. More change the SNR by 0.02 dB."""
_AT_ONCE = 1 << 16  # elements: the arrays of a step stay in the L2 cache


class Rounded(NamedTuple):
    """``integers`` are from 0 to 2^bits - 1, with the shape of the weight."""

    integers: Bytes
    scales: Floats
    biases: Floats
    squared_error: float
    squared_norm: float


def round_weight(weight: npt.NDArray[Any], bits: int, group: int, scale_dtype: str, threads: int = 1) -> Rounded:
    """Of a weight ``[..., depth]``, whose depth ``group`` divides. Not finite where the weight or a scale is not."""
    shape = weight.shape
    groups = weight.reshape(-1, group)
    integers = np.empty(groups.shape, np.uint8)
    scales, biases = (np.empty(len(groups), FLOATS[scale_dtype]) for _ in range(2))
    step = max(1, _AT_ONCE // group)

    def round_part(begin: int) -> tuple[float, float]:
        part = slice(begin, begin + step)
        columns = np.ascontiguousarray(as_float32(groups[part]).T)  # steps over all groups are one long loop
        fit = _search(columns, bits, _rounding_to(scale_dtype))
        integers[part] = fit.values(columns).T
        scales[part], biases[part] = fit.scale, fit.bias
        return float(fit.error.sum(dtype=np.float64)), float(np.einsum("ij,ij->", columns, columns, dtype=np.float64))

    starts = range(0, len(groups), step)
    with np.errstate(all="ignore"):  # what is not finite shows in the scales
        if threads > 1 and len(starts) > 1:
            with ThreadPoolExecutor(threads) as pool:
                errors = list(pool.map(round_part, starts))
        else:
            errors = list(map(round_part, starts))
    error, norm = (sum(values) for values in zip(*errors, strict=True)) if errors else (0.0, 0.0)
    per_group = (*shape[:-1], shape[-1] // group)
    return Rounded(integers.reshape(shape), scales.reshape(per_group), biases.reshape(per_group), error, norm)


def as_float32(array: npt.NDArray[Any]) -> _Float32:
    if array.dtype.name == "bfloat16":  # four times as fast as its own conversion
        bits = array.view(np.uint16).astype(np.uint32)
        bits <<= np.uint32(16)
        return bits.view(np.float32)
    return array.astype(np.float32, copy=False)


def decibels(power: float, error: float) -> float:
    """The ratio of a signal to its noise, by their sums of squares."""
    if not error:
        return inf
    return 10 * log10(power / error) if power else -inf


_Round = Callable[[_Float32], _Float32]


def _rounding_to(dtype: str) -> _Round:
    kind = FLOATS[dtype]
    return lambda values: values.astype(kind).astype(np.float32)


class _Fit:
    """A scale and a bias for each column, and the squared error that they leave."""

    def __init__(self, columns: _Float32, scale: _Float32, bias: _Float32, top: int) -> None:
        self.scale, self.bias, self._top = scale, bias, top
        left = self.values(columns)
        left *= scale
        left += bias
        left -= columns
        self.error: _Float32 = np.einsum("ij,ij->j", left, left)

    def values(self, columns: _Float32) -> _Float32:
        """The integers."""
        inverse = np.divide(np.float32(1), self.scale, where=self.scale != 0, out=np.zeros_like(self.scale))
        values = columns - self.bias
        values *= inverse
        np.rint(values, out=values)
        np.maximum(values, np.float32(0), out=values)
        np.minimum(values, np.float32(self._top), out=values)
        return values

    def fitted(self, columns: _Float32, rounding: _Round) -> _Fit:
        """With the scale and the bias that leave the least error for the same integers."""
        q, n = self.values(columns), np.float32(len(columns))
        sum_q, sum_w = q.sum(0), columns.sum(0)
        spread = n * np.einsum("ij,ij->j", q, q) - sum_q * sum_q
        slope = n * np.einsum("ij,ij->j", q, columns) - sum_q * sum_w
        scale = rounding(np.divide(slope, spread, where=spread > 0, out=self.scale.copy()))
        return _Fit(columns, scale, rounding((sum_w - scale * sum_q) / n), self._top)

    def take(self, other: _Fit) -> None:
        """What is better of another."""
        better = other.error < self.error
        for name in ("scale", "bias", "error"):
            setattr(self, name, np.where(better, getattr(other, name), getattr(self, name)))


def _search(columns: _Float32, bits: int, rounding: _Round) -> _Fit:
    top = (1 << bits) - 1
    low, high = columns.min(0), columns.max(0)
    middle, width = (low + high) * np.float32(0.5), high - low
    best: _Fit | None = None
    for part in (*_WIDE[: 1 if bits < 6 else 2], *_RANGES.get(bits, ())):
        scale = rounding(width * np.float32(part / top))
        fit = _Fit(columns, scale, rounding(middle - scale * np.float32(top / 2)), top)
        if best is None:
            best = fit
        else:
            best.take(fit)
    assert best is not None
    for _ in range(_FITS if bits < 6 else 1):
        best.take(best.fitted(columns, rounding))
    return best
