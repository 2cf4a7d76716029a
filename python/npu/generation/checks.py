"""Checks of arguments. Numbers may come from any library."""

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

__all__ = ["UnsupportedModelError", "invalid", "listed", "number", "short_repr", "whole_number"]


class UnsupportedModelError(NPUError, ValueError):
    """The model does not support generation with caches."""


def invalid(what: str, got: Any, expected: str | None, action: str | None = None) -> InvalidValueError:
    return InvalidValueError(format_error("generate", what, got=got, expected=expected, action=action))


def short_repr(value: Any) -> str:
    """A value for an error message, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def whole_number(what: str, value: Any, expected: str, least: int, most: float = math.inf) -> int:
    """Any integer type, but neither bools nor whole floats."""
    try:
        integer = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        integer = None
    if integer is None or not least <= integer <= most:
        raise invalid(f"{what} is out of range", short_repr(value), expected)
    return integer


def number(what: str, value: Any, expected: str, least: float, most: float) -> float:
    """A real number from ``least`` to ``most`` that float32 can represent."""
    is_real = isinstance(value, Real | np.number) and not isinstance(value, bool | complex | np.complexfloating)
    try:
        real = float(value) if is_real else math.nan
    except OverflowError:
        real = math.inf
    if not least <= real <= most or not real <= float(np.finfo(np.float32).max):
        raise invalid(f"{what} is out of range", short_repr(value), expected)
    return real


def listed(what: str, values: Any, expected: str) -> list[Any]:
    """The entries of a collection, which must not be a string or a single value."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise invalid(f"{what} is not a list", short_repr(values), expected)
    return list(values)
