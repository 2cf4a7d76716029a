"""Ranges of numbers, and what operators make of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["ANY", "BOOL", "FALSE", "TRUE", "Limits", "Range", "constant", "hull", "truth"]

_INF = math.inf


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included, which may be infinite. ``nan``: also NaN. ``of_data``: they come
    from numbers of inputs or weights, not from positions and constants alone."""

    low: Any
    high: Any
    nan: bool = False
    of_data: bool = field(default=False, compare=False)

    @property
    def constant(self) -> Any:
        """The only number in it, or None."""
        return self.low if self.low == self.high and not self.nan else None

    @property
    def is_zero(self) -> bool:
        return self.low == 0 == self.high and not self.nan

    @property
    def is_finite(self) -> bool:
        return not self.nan and self.low > -_INF and self.high < _INF

    def within(self, low: Any, high: Any) -> bool:
        return not self.nan and self.low >= low and self.high <= high

    def meet(self, other: Range) -> Range:
        """What is in both; this one if that would be nothing."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Range(low, high, self.nan and other.nan, self.of_data and other.of_data) if low <= high else self

    def map(self, f: Callable[[Any], Any]) -> Range:
        """Of a function that never falls."""
        return replace(self, low=f(self.low), high=f(self.high))


ANY = Range(-_INF, _INF, True)
BOOL, FALSE, TRUE = Range(0, 1), Range(0, 0), Range(1, 1)


def constant(value: Any) -> Range:
    if isinstance(value, float) and math.isnan(value):
        return ANY
    return Range(int(value), int(value)) if isinstance(value, bool) else Range(value, value)


def hull(ranges: Iterable[Range]) -> Range:
    many = list(ranges)
    low, high = min(r.low for r in many), max(r.high for r in many)
    return Range(low, high, any(r.nan for r in many), any(r.of_data for r in many))


def truth(can_be_false: bool, can_be_true: bool) -> Range:
    return Range(0 if can_be_false else 1, 1 if can_be_true else 0)


_INTEGERS = {
    "bool": (0, 1), "uint8": (0, 2**8 - 1), "int8": (-(2**7), 2**7 - 1), "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1), "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1),
}  # fmt: skip
_LARGEST = {
    "float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38,
    "float64": 1.7976931348623157e308,
}  # fmt: skip

_TINY = {"float16": 2.0**-23, "bfloat16": 2.0**-120, "float32": 2.0**-120, "float64": 2.0**-1000}
"""Below these, numbers have few bits or none, and may be 0."""


class Limits:
    """What numbers of a dtype can be. ``compute_dtype`` is that of a float32 model that computes in half precision."""

    def __init__(self, compute_dtype: str | None = None) -> None:
        is_half = compute_dtype in ("float16", "bfloat16")  # the compiler refuses others
        self.computed = {"float32": compute_dtype} if compute_dtype and is_half else {}

    def all_of(self, dtype: str) -> Range:
        return Range(*_INTEGERS[dtype]) if dtype in _INTEGERS else ANY

    def ordinary(self, dtype: str) -> Range:
        """What inputs, weights and the results of arithmetic on them are: see docs/any-size.md."""
        if dtype in _INTEGERS:
            return Range(*_INTEGERS[dtype], of_data=True)
        if dtype not in _LARGEST:
            return ANY
        bound = 2.0**14 if "float16" in (dtype, self.computed.get(dtype)) else 2.0**28
        return Range(-bound, bound, of_data=True)

    def gap(self, dtype: str) -> float:
        """How much less a number is than another whose softmax weight is exactly 0 beside it."""
        return 760.0 if dtype == "float64" else 110.0

    def fit(self, r: Range, dtype: str) -> Range:
        """As numbers of a dtype: too large ones are infinite, or wrap around."""
        if dtype in _INTEGERS:
            whole = Range(*_INTEGERS[dtype], of_data=r.of_data)
            if not r.within(whole.low, whole.high):
                return whole
            ends = (math.ceil(r.low), math.floor(r.high)) if r.low != r.high else (int(r.low), int(r.low))
            return replace(r, low=ends[0], high=ends[1])
        if dtype not in _LARGEST:
            return ANY
        tiny = _TINY[self.computed.get(dtype) or dtype]
        low, high = 0 if 0 < r.low < tiny else r.low, 0 if -tiny < r.high < 0 else r.high
        # A number that is too large only for the dtype computed in may be rounded to infinity, or not.
        for largest in {_LARGEST[dtype], _LARGEST[self.computed.get(dtype) or dtype]}:
            always = largest == _LARGEST[dtype]
            if low < -largest:
                low, high = -_INF, (-_INF if always and high < -largest else high)
            if high > largest:
                low, high = (_INF if always and low > largest else low), _INF
        return replace(r, low=low, high=high)

    def rounded(self, r: Range, dtype: str, *, sums: bool = False) -> Range:
        """With what rounding to a dtype may add at the ends; ``sums``: also to a single number."""
        if dtype not in _LARGEST or r.is_zero or (r.constant is not None and not sums):
            return r
        part = 2.0**-7 if self.computed or "float16" in dtype else 2.0**-20
        widen = lambda x, sign: x + sign * abs(x) * part if abs(x) < 1e300 else x  # noqa: E731
        return replace(r, low=widen(r.low, -1), high=widen(r.high, 1))

    def is_ordinary(self, r: Range, dtype: str) -> bool:
        bound = self.ordinary(dtype)
        return r.within(bound.low, bound.high)

    def regular(self, r: Range, dtype: str, *operands: tuple[Range, str]) -> Range:
        """The result of arithmetic, which is ordinary if the operands are and it is defined for all of them.

        Not so where all operands come from positions: real ones then say nothing of those behind.
        """
        bound = self.ordinary(dtype)
        ordinary = dtype in _LARGEST and all(self.is_ordinary(o, of) or of in _INTEGERS for o, of in operands)
        of_data = any(o.of_data for o, _ in operands)
        fitting = replace(self.fit(r, dtype), of_data=of_data)
        if not of_data or not ordinary or r.nan or r.low > bound.high or r.high < bound.low:
            return fitting
        return replace(fitting, low=max(fitting.low, bound.low), high=min(fitting.high, bound.high))
