"""What elementwise operators make of ranges: a function of the call and the ranges of the operands for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from npu.padding.calls import Call
from npu.padding.ranges import ANY, BOOL, FALSE, TRUE, Range, constant, hull, truth

__all__ = ["COMPARISONS", "ELEMENTWISE", "OVERFLOWING"]

_INF = math.inf
Ranges = Callable[..., Range]


def _sum(a: Range, b: Range) -> Range:
    nan = a.nan or b.nan or (a.low == -_INF and b.high == _INF) or (a.high == _INF and b.low == -_INF)
    low, high = a.low + b.low, a.high + b.high
    return Range(-_INF if low != low else low, _INF if high != high else high, nan)


def _negative(a: Range) -> Range:
    return Range(-a.high, -a.low, a.nan)


def _product(a: Range, b: Range) -> Range:
    ends = [(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    infinite = lambda r: r.low == -_INF or r.high == _INF  # noqa: E731
    holds_zero = lambda r: r.low <= 0 <= r.high  # noqa: E731
    nan = a.nan or b.nan or (infinite(a) and holds_zero(b)) or (infinite(b) and holds_zero(a))
    corners = [0 if 0 in end else end[0] * end[1] for end in ends]
    return Range(min(corners), max(corners), nan)


def _scaled(call: Call, name: str, r: Range) -> Range:
    factor = call[name]
    return r if factor is None or factor == 1 else _product(r, constant(factor))


def _add(call: Call, a: Range, b: Range) -> Range:
    return _sum(a, _scaled(call, "alpha", b))


def _sub(call: Call, a: Range, b: Range) -> Range:
    return _sum(a, _negative(_scaled(call, "alpha", b)))


def _rsub(call: Call, a: Range, b: Range) -> Range:
    return _sum(b, _negative(_scaled(call, "alpha", a)))


def _quotient(call: Call, a: Range, b: Range) -> Range:
    if b.nan or b.low <= 0 <= b.high or _INF in (b.high, -b.low):
        return ANY
    exact = _product(a, Range(1 / b.high, 1 / b.low))
    return exact if call["rounding_mode"] is None else Range(exact.low - 1, exact.high + 1, exact.nan)


def _floor_quotient(_: Call, a: Range, b: Range) -> Range:
    if b.nan or b.low <= 0 <= b.high or _INF in (b.high, -b.low):
        return ANY
    exact = _product(a, Range(1 / b.high, 1 / b.low))
    return Range(exact.low - 1, exact.high + 1, exact.nan)


def _remainder(_: Call, a: Range, b: Range) -> Range:
    """With the sign of the divisor, as Python has it."""
    return Range(0, b.high) if a.is_finite and b.is_finite and b.low > 0 else ANY


def _power(_: Call, a: Range, b: Range) -> Range:
    n = b.constant
    if n is None and a.low > 0 and a.is_finite and b.is_finite:
        powers = [_exp_of(x * math.log(y)) for x in (b.low, b.high) for y in (a.low, a.high)]
        return Range(min(powers), max(powers))
    if n is None or not a.is_finite or not b.is_finite or max(abs(a.low), abs(a.high)) > 1e30:
        return ANY
    if n == int(n) and 0 <= n <= 8:
        ends = [float(a.low) ** int(n), float(a.high) ** int(n)]
        crosses = a.low < 0 < a.high and n % 2 == 0
        return Range(0.0 if crosses else min(ends), max(ends))
    if n in (0.5, -0.5):
        return _sqrt(_, a) if n > 0 else _rsqrt(_, a)
    return ANY if n != -1 else _reciprocal(_, a)


def _square(call: Call, a: Range) -> Range:
    return _power(call, a, Range(2, 2))


def _sqrt(_: Call, a: Range) -> Range:
    return ANY if a.nan or a.low < 0 else a.map(math.sqrt)


def _rsqrt(_: Call, a: Range) -> Range:
    return Range(1 / math.sqrt(a.high), 1 / math.sqrt(a.low)) if a.is_finite and a.low > 0 else ANY


def _reciprocal(_: Call, a: Range) -> Range:
    return Range(1 / a.high, 1 / a.low) if a.is_finite and (a.low > 0 or a.high < 0) else ANY


def _exp_of(x: Any) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return _INF


def _exp(_: Call, a: Range) -> Range:
    return a.map(_exp_of)


def _log(_: Call, a: Range) -> Range:
    return a.map(math.log) if not a.nan and a.low > 0 and a.high < _INF else ANY


def _abs(_: Call, a: Range) -> Range:
    low = 0 if a.low <= 0 <= a.high else min(abs(a.low), abs(a.high))
    return Range(low, max(abs(a.low), abs(a.high)), a.nan)


def _bounded(low: float, high: float) -> Ranges:
    """Of functions with these bounds, also at infinity."""
    return lambda _, a: Range(low, high, a.nan)


def _wave(_: Call, a: Range) -> Range:
    return Range(-1, 1, not a.is_finite)


def _tame(_: Call, a: Range) -> Range:
    """Of functions that are defined for all finite arguments, and grow about as these do."""
    return Range(-_INF, _INF) if a.is_finite else ANY


def _max(_: Call, a: Range, b: Range) -> Range:
    return Range(max(a.low, b.low), max(a.high, b.high), a.nan or b.nan)


def _min(_: Call, a: Range, b: Range) -> Range:
    return Range(min(a.low, b.low), min(a.high, b.high), a.nan or b.nan)


def _clamp(call: Call, a: Range, low: Range | None, high: Range | None) -> Range:
    a = a if low is None else _max(call, a, low)
    return a if high is None else _min(call, a, high)


def _is_true(a: Range) -> Range:
    return truth(a.low <= 0 <= a.high, not a.is_zero)


def _not(_: Call, a: Range) -> Range:
    r = _is_true(a)
    return Range(1 - r.high, 1 - r.low)


def _and(_: Call, a: Range, b: Range) -> Range:
    a, b = _is_true(a), _is_true(b)
    return Range(min(a.low, b.low), min(a.high, b.high))


def _or(_: Call, a: Range, b: Range) -> Range:
    a, b = _is_true(a), _is_true(b)
    return Range(max(a.low, b.low), max(a.high, b.high))


def _xor(_: Call, a: Range, b: Range) -> Range:
    a, b = _is_true(a), _is_true(b)
    return BOOL if None in (a.constant, b.constant) else constant(a.low != b.low)


def _bits(logical: Ranges) -> Ranges:
    def rule(call: Call, *ranges: Range) -> Range:
        return logical(call, *ranges) if call.outputs[0].dtype == "bool" else ANY

    return rule


def _lt(_: Call, a: Range, b: Range) -> Range:
    return truth(a.high >= b.low or a.nan or b.nan, a.low < b.high)


def _le(_: Call, a: Range, b: Range) -> Range:
    return truth(a.high > b.low or a.nan or b.nan, a.low <= b.high)


def _gt(call: Call, a: Range, b: Range) -> Range:
    return _lt(call, b, a)


def _ge(call: Call, a: Range, b: Range) -> Range:
    return _le(call, b, a)


def _eq(_: Call, a: Range, b: Range) -> Range:
    can_be_equal = a.low <= b.high and b.low <= a.high
    return truth(a.constant is None or a.constant != b.constant, can_be_equal)


def _ne(call: Call, a: Range, b: Range) -> Range:
    r = _eq(call, a, b)
    return Range(1 - r.high, 1 - r.low)


def _where(_: Call, condition: Range, a: Range, b: Range) -> Range:
    chosen = _is_true(condition).constant
    return hull([a, b]) if chosen is None else (a if chosen else b)


def _masked_fill(call: Call, a: Range, mask: Range, value: Range) -> Range:
    return _where(call, mask, value, a)


def _isnan(_: Call, a: Range) -> Range:
    return BOOL if a.nan else FALSE


def _isinf(_: Call, a: Range) -> Range:
    return FALSE if a.low > -_INF and a.high < _INF else BOOL


def _isfinite(_: Call, a: Range) -> Range:
    return TRUE if a.is_finite else BOOL


def _addcmul(call: Call, a: Range, b: Range, c: Range) -> Range:
    return _sum(a, _scaled(call, "value", _product(b, c)))


def _lerp(_: Call, a: Range, b: Range, weight: Range) -> Range:
    return _sum(a, _product(weight, _sum(b, _negative(a))))


_ONE, _TWO = ("self",), ("self", "other")
COMPARISONS: dict[str, Ranges] = {
    "lt": _lt, "le": _le, "gt": _gt, "ge": _ge, "eq": _eq, "ne": _ne, "less": _lt, "less_equal": _le,
    "greater": _gt, "greater_equal": _ge, "not_equal": _ne,
}  # fmt: skip
_BY_OPERANDS: dict[tuple[str, ...], dict[str, Ranges]] = {
    _ONE: {
        "neg": lambda _, a: _negative(a), "abs": _abs, "square": _square, "sqrt": _sqrt, "rsqrt": _rsqrt,
        "reciprocal": _reciprocal, "exp": _exp, "log": _log, "sin": _wave, "cos": _wave,
        "tanh": _bounded(-1, 1), "erf": _bounded(-1, 1), "sigmoid": _bounded(0, 1), "hardsigmoid": _bounded(0, 1),
        "sign": _bounded(-1, 1), "atan": _bounded(-2, 2), "relu": lambda _, a: a.map(lambda x: max(x, 0)),
        "relu6": lambda _, a: a.map(lambda x: min(max(x, 0), 6)),
        "floor": lambda _, a: Range(a.low - 1, a.high, a.nan), "ceil": lambda _, a: Range(a.low, a.high + 1, a.nan),
        "round": lambda call, a: ANY if call["decimals"] else Range(a.low - 1, a.high + 1, a.nan),
        "trunc": lambda _, a: Range(a.low - 1, a.high + 1, a.nan),
        "gelu": _tame, "silu": _tame, "mish": _tame, "hardswish": _tame, "leaky_relu": _tame, "elu": _tame,
        "selu": _tame, "celu": _tame, "softplus": _tame, "log_sigmoid": _tame, "hardtanh": _tame,
        "logical_not": _not, "bitwise_not": _bits(_not), "isnan": _isnan, "isinf": _isinf, "isfinite": _isfinite,
    },
    _TWO: {
        "add": _add, "sub": _sub, "subtract": _sub, "rsub": _rsub, "mul": lambda _, a, b: _product(a, b),
        "multiply": lambda _, a, b: _product(a, b), "div": _quotient, "divide": _quotient, "true_divide": _quotient,
        "floor_divide": _floor_quotient, "remainder": _remainder, "maximum": _max, "minimum": _min,
        "logical_and": _and, "logical_or": _or, "logical_xor": _xor, "bitwise_and": _bits(_and),
        "bitwise_or": _bits(_or), "bitwise_xor": _bits(_xor), "__and__": _bits(_and), "__or__": _bits(_or),
        "__xor__": _bits(_xor), **COMPARISONS,
    },
    ("self", "exponent"): {"pow": _power},
    ("self", "min", "max"): {"clamp": _clamp, "clip": _clamp},
    ("self", "min"): {"clamp_min": _max},
    ("self", "max"): {"clamp_max": _min},
    ("condition", "self", "other"): {"where": _where},
    ("self", "mask", "value"): {"masked_fill": _masked_fill},
    ("self", "tensor1", "tensor2"): {"addcmul": _addcmul},
    ("self", "end", "weight"): {"lerp": _lerp},
}  # fmt: skip
ELEMENTWISE: dict[str, tuple[tuple[str, ...], Ranges]] = {
    name: (operands, function) for operands, group in _BY_OPERANDS.items() for name, function in group.items()
}
"""By operator, the names of its operands and the function of their ranges."""
OVERFLOWING = ("exp",)
"""Ordinary numbers may well be too large for these."""
