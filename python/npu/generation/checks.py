"""What callers give, checked: numbers of any library, and errors that say what came and what was expected."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from npu_base.errors import NPUError
from npu_runtime import InvalidValueError
from npu_runtime.errors import format_error

__all__ = ["UnsupportedModelError", "listed", "number", "shown", "whole_number", "wrong"]


class UnsupportedModelError(NPUError, ValueError):
    """A model that cannot be generated with, and why."""


def wrong(what: str, got: Any, expected: str | None, action: str | None = None) -> InvalidValueError:
    return InvalidValueError(format_error("generate", what, got=got, expected=expected, action=action))


def shown(value: Any) -> str:
    """A value in an error, however long it is."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def whole_number(what: str, value: Any, expected: str, least: int, most: float = math.inf) -> int:
    """An integer of Python, NumPy or whoever has integers; no bool, and no float even if it is whole."""
    try:
        found = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        found = None
    if found is None or not least <= found <= most:
        raise wrong(f"{what} is out of range", shown(value), expected)
    return found


def number(what: str, value: Any, expected: str, least: float, most: float) -> float:
    """From ``least`` to ``most``, and in the range of float32."""
    is_real = isinstance(value, Real | np.number) and not isinstance(value, bool | complex | np.complexfloating)
    try:
        found = float(value) if is_real else math.nan
    except OverflowError:
        found = math.inf
    if not least <= found <= most or not found <= float(np.finfo(np.float32).max):
        raise wrong(f"{what} is out of range", shown(value), expected)
    return found


def listed(what: str, values: Any, expected: str) -> list[Any]:
    """The entries of a collection; text and single values are none."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise wrong(f"{what} is not a list", shown(values), expected)
    return list(values)
