"""Sizes that calls are padded to, so that few programs serve many. ``npu.padding`` proves that this keeps results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from npu_base.errors import InvalidTypeError, InvalidValueError, NPUError, format_error
from npu_base.size_rules import SizeRange, SizeRules
from npu_base.sizes import Size, as_int, free_names

__all__ = ["ABOVE", "Buckets", "Fill", "axis_of", "check_no_buckets", "checked_buckets", "is_ordinary"]

_MOST = 1 << 40
Fill = int | float | bool
ABOVE = ">"
"""The need that in each row, the first element is greater than what the input is padded with."""


@dataclass(frozen=True)
class Buckets:
    """``sizes`` are the buckets by the name of the size, ascending. ``fills`` are what inputs are padded with, where
    that is not 0. ``needs`` says, by size and input, what must hold of a call that is padded: in each row, the first
    element along this size is this number, and no element is beyond it or what the input is padded with. Or it is
    ``ABOVE``."""

    sizes: Mapping[str, Sequence[int]]
    fills: Mapping[str, Fill] = field(default_factory=dict)
    needs: Mapping[str, Mapping[str, Fill | str]] = field(default_factory=dict)

    def target(self, rules: SizeRules, sizes: Mapping[str, Any], leave: Iterable[str] = ()) -> dict[str, Any]:
        """The sizes to run with: the least buckets that are large enough, but for those in ``leave``. A size of 0, and
        one beyond the largest bucket, stays."""
        target = {name: n if name in leave else self._bucket(name, n) for name, n in sizes.items()}
        try:
            rules.check(target)
        except NPUError:
            return dict(sizes)  # they fulfil a condition on several sizes, and their buckets do not
        return target

    def _bucket(self, name: str, n: Any) -> Any:
        n = as_int(n)
        if type(n) is not int or n < 1:
            return n
        return next((bucket for bucket in self.sizes.get(name, ()) if bucket >= n), n)

    def to_dict(self) -> dict[str, Any]:
        needs = {size: {name: _to_json(n) for name, n in inputs.items()} for size, inputs in self.needs.items()}
        fills = {name: _to_json(fill) for name, fill in self.fills.items()}
        return {"sizes": {name: list(b) for name, b in self.sizes.items()}, "fills": fills, "needs": needs}

    @staticmethod
    def from_dict(data: Any, rules: SizeRules) -> Buckets:
        """From a file. ``ValueError`` if it is not valid."""
        if not isinstance(data, Mapping) or not all(
            isinstance(data.get(k), Mapping) for k in ("sizes", "fills", "needs")
        ):
            raise InvalidValueError("not an object with sizes, fills and needs")
        sizes, fills = checked_buckets(data["sizes"], {k: _from_json(v) for k, v in data["fills"].items()}, rules)
        needs = {}
        for name, inputs in data["needs"].items():
            if name not in sizes or not isinstance(inputs, Mapping):
                raise InvalidValueError(f"needs of {name!r:.60}, which has no buckets")
            given = {k: _from_json(v) for k, v in inputs.items()}
            if wrong := [v for v in given.values() if not _is_need(v)]:
                raise InvalidValueError(f"a need that is no number: {wrong[0]!r:.60}")
            if unknown := [n for n in given if axis_of(rules, n, name) is None]:
                raise InvalidValueError(f"needs of {unknown[0]!r:.60}, which has no dimension '{name}'")
            needs[name] = given
        return Buckets(sizes, fills, needs)

    def __str__(self) -> str:
        return ", ".join(f"{name} to {_any_of(buckets)}{self._if(name)}" for name, buckets in self.sizes.items())

    def _if(self, size: str) -> str:
        needs = [
            f"'{name}' starts with {'more than ' + str(self.fills.get(name, 0)) if need == ABOVE else need}"
            for name, need in self.needs.get(size, {}).items()
        ]
        return f" if {' and '.join(needs)}" if needs else ""


def _any_of(buckets: Sequence[int]) -> str:
    *some, last = map(str, buckets)
    return f"{', '.join(some)} or {last}" if some else last


def axis_of(rules: SizeRules, name: str, size: str) -> int | None:
    """The last dimension of an input that depends on a size."""
    shapes = [entry.shape for entry in rules.inputs if entry.name == name]
    axes = [i for shape in shapes for i, n in enumerate(shape) if isinstance(n, Size) and size in free_names(n.text)]
    return axes[-1] if axes else None


def _to_json(fill: Fill | str) -> Any:
    return str(fill) if isinstance(fill, float) and not math.isfinite(fill) else fill


def _from_json(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf") else value


def is_ordinary(tensor: Any, compute_dtype: str | None = None) -> bool:
    """Whether the numbers of a tensor or array are those that a proof of padding takes weights to have."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if "float" not in dtype or "float8" in dtype or 0 in tensor.shape or getattr(tensor, "is_meta", False):
        return True
    bound = 2.0**14 if "float16" in (dtype, compute_dtype if dtype == "float32" else None) else 2.0**28
    return -bound <= float(tensor.min()) and float(tensor.max()) <= bound


def checked_buckets(buckets: Any, fills: Any, rules: SizeRules) -> tuple[dict[str, list[int]], dict[str, Fill]]:
    """The options ``buckets`` and ``pad``, valid for the open sizes and the inputs of a model."""
    if buckets is None:
        what, got = "pad is for padding to buckets", "pad without buckets"
        raise InvalidValueError(format_error("npu", what, got=got, action="buckets={'seq': [32, 64, 128]}"))
    if not isinstance(buckets, Mapping) or not buckets:
        _wrong_type("buckets", buckets, "lists of sizes by name, such as {'seq': [32, 64, 128]}")
    known = {size.name: size for size in rules.sizes}
    checked = {}
    for name, values in buckets.items():
        if name not in known:
            _wrong(f"buckets has an unknown size {name!r:.60}", name, f"open sizes: {', '.join(known)}")
        checked[name] = _checked_sizes(name, values, known[name], rules)
    return checked, _checked_fills(fills, checked, rules)


def _checked_sizes(name: str, values: Any, size: SizeRange, rules: SizeRules) -> list[int]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        _wrong_type(f"buckets of '{name}'", values, "a list of sizes, such as [32, 64, 128] or range(32, 129, 32)")
    sizes = [_whole(name, n) for n in values]
    if not sizes:
        _wrong(f"buckets of '{name}' is empty", sizes, "at least one size")
    if sizes != sorted(set(sizes)):
        _wrong(f"buckets of '{name}' are not in ascending order", sizes, f"{sorted(set(sizes))}")
    for n in sizes:
        if n < size.least or n > (_MOST if size.most is None else size.most):
            _wrong(f"a bucket of '{name}' is out of its range", n, str(size), "another range in dynamic_shapes")
        for condition in rules.conditions:
            if free_names(condition) == {name} and not rules.value(condition, {name: n}):
                _wrong(f"a bucket of '{name}' is a size that the model does not take", n, condition)
    return sizes


def _whole(name: str, size: Any) -> int:
    whole = as_int(size)
    if type(whole) is not int:
        _wrong_type(f"a bucket of '{name}'", size, "whole numbers")
    return whole


def _checked_fills(fills: Any, buckets: Mapping[str, Any], rules: SizeRules) -> dict[str, Fill]:
    if fills is None:
        return {}
    if not isinstance(fills, Mapping):
        _wrong_type("pad", fills, "numbers by the name of the input, such as {'attention_mask': 0}")
    padded = {e.name: e for e in rules.inputs if any(axis_of(rules, e.name, name) is not None for name in buckets)}
    names = {str(getattr(e, "user_name", e.name)): e.name for e in padded.values()} | {n: n for n in padded}
    checked: dict[str, Fill] = {}
    for name, fill in fills.items():
        if name not in names:
            one_of = ", ".join(f"'{n}'" for n in padded)
            _wrong("pad names an input that is not padded", name, f"one of {one_of}" if one_of else "no input")
        entry = padded[names[name]]
        checked[entry.name] = _checked_fill(str(name), fill, entry.dtype)
    return checked


def _checked_fill(name: str, fill: Any, dtype: str) -> Fill:
    fill = fill.item() if isinstance(fill, np.generic) else fill
    valid = type(fill) in (int, float, bool) and fill == fill and (type(fill) is float or abs(fill) < 2**63)
    if "float" not in dtype and valid:
        valid = type(fill) is not float and fill in _integers(dtype)
    if not valid:
        _wrong(f"pad of '{name}' is not a number of its dtype", fill, dtype)
    return bool(fill) if dtype == "bool" else (float(fill) if "float" in dtype else int(fill))


def _is_need(value: Any) -> bool:
    return value == ABOVE or type(value) in (float, bool) or (type(value) is int and abs(value) < 2**63)


def _integers(dtype: str) -> range:
    if dtype == "bool":
        return range(2)
    if not dtype.startswith(("int", "uint")):
        return range(0)
    limits = np.iinfo(dtype)
    return range(int(limits.min), int(limits.max) + 1)


def _wrong(what: str, got: Any, expected: str, action: str | None = None) -> NoReturn:
    raise InvalidValueError(format_error("npu", what, got=f"{got!r:.60}", expected=expected, action=action))


def _wrong_type(what: str, got: Any, expected: str) -> NoReturn:
    what = f"{what} has the wrong type"
    raise InvalidTypeError(format_error("npu", what, got=f"{got!r:.60}", expected=expected))


def check_no_buckets(buckets: Any, pad: Any) -> None:
    """Of a model of fixed sizes."""
    if buckets is not None or pad is not None:
        what, got = "buckets and pad are for open sizes", "a model of fixed sizes"
        raise InvalidValueError(format_error("npu", what, got=got, action="dynamic_shapes, which leaves sizes open"))
