"""How close results must be: the rule for numbers, see docs/exactness.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["EPSILON", "Figures", "allowed", "allowed_in_step", "measure", "relative_error"]

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
_MOST_IN_FLOAT32 = 1e-4
_NOT_FINITE = "NaN or infinity on one side only"


def allowed(own: float, dtype: str) -> float:
    """The error that a result may have, if that of another implementation in the same dtype is ``own``."""
    bound = max(1.5 * own, 4 * EPSILON[dtype])
    return min(bound, _MOST_IN_FLOAT32) if dtype == "float32" else bound


def allowed_in_step(own: float, dtype: str) -> float:
    """The same for one step of a model, with a margin: a sum of thousands of terms exceeds the rule by some percent in
    another order, on sound devices too. Kernels that are wrong are off by much more."""
    return 2 * allowed(own, dtype)


def relative_error(got: Any, wanted: Any) -> float:
    """The relative Frobenius norm of the difference, where both are finite; the absolute one if ``wanted`` is zero."""
    got, wanted = _wide(got), _wide(wanted)
    finite = np.isfinite(got) & np.isfinite(wanted)
    got, wanted = got[finite], wanted[finite]
    size = float(np.linalg.norm(wanted))
    difference = float(np.linalg.norm(got - wanted))
    return difference / size if size else difference


@dataclass(frozen=True)
class Figures:
    """How far a result is from another one. ``reason`` is empty where they are the same by their dtype's nature: equal
    integers, and NaN and infinity in the same positions."""

    absolute: float = 0.0
    relative: float = 0.0
    reason: str = ""

    @property
    def snr(self) -> float:
        """In dB: the signal is the reference, the noise is the difference."""
        return -20 * math.log10(self.relative) if self.relative > 0 else math.inf


def measure(got: Any, wanted: Any) -> Figures:
    if got.dtype != wanted.dtype or got.shape != wanted.shape:
        described = f"{got.dtype}{list(got.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
        return Figures(math.inf, math.inf, described)
    if not got.size:
        return Figures()
    a, b = _wide(got), _wide(wanted)
    if got.dtype.name not in EPSILON:
        different = got != wanted
        if not different.any():
            return Figures()
        count = f"{int(different.sum())} of {got.size} differ"
        return Figures(max(float(np.abs(a - b).max()), 1.0), relative_error(got, wanted), count)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if bool((~same & ~(np.isfinite(a) & np.isfinite(b))).any()):
        return Figures(math.inf, math.inf, _NOT_FINITE)
    gap = np.abs(a[~same] - b[~same])
    return Figures(float(gap.max()) if gap.size else 0.0, relative_error(got, wanted))


def _wide(array: Any) -> Any:
    return np.asarray(array).astype(np.float64)
