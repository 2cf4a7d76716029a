"""Sizes that --input leaves open by a name, such as batch,3,224,224, and what --size and --warm-up say of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from npu_base.commands import usage_error
from npu_base.size_rules import SizeRange

from npu.commands.inputs import OPEN_SIZE, GivenInput

__all__ = ["OpenInputs", "read_open_inputs"]

_RANGE = re.compile(r"(\w+)=(\d+)-(\d*)")
_VALUE = re.compile(r"(\w+)=(\d+)")
_USUAL = 4
"""The extent of the first open size in the example inputs. The others are 5, 6 and so on, so that they differ."""


@dataclass(frozen=True)
class OpenInputs:
    """``given`` has example extents for the sizes. ``axes`` says which of its axes are open, by the number of the
    input, and ``warm_up`` has the sizes that programs are made for."""

    given: list[GivenInput]
    axes: Mapping[int, Mapping[int, str]]
    sizes: Sequence[SizeRange]
    warm_up: list[dict[str, int]]

    def dynamic_shapes(self, names: Sequence[str], parameters: Sequence[str]) -> dict[str, Any] | None:
        """As ``torch.export`` takes them, for inputs of these names."""
        from torch.export import Dim

        if not self.sizes:
            return None
        dims = {
            size.name: Dim(size.name, min=size.least, **({} if size.most is None else {"max": size.most}))
            for size in self.sizes
        }
        shapes: dict[str, Any] = {name: {} for name in names}
        for number, axes in self.axes.items():
            if names[number] not in parameters:
                what, got = "sizes of this input cannot be open", self.given[number].text
                raise usage_error(
                    what, got, "an argument of forward that has a name, which is not one of *args or **kwargs"
                )
            shapes[names[number]] = {axis: _dim(text, dims) for axis, text in axes.items()}
        return shapes


def read_open_inputs(given: Sequence[GivenInput], sizes: Sequence[str], warm_up: Sequence[str]) -> OpenInputs:
    axes = {
        number: open_axes
        for number, one in enumerate(given)
        if (open_axes := {axis: n for axis, n in enumerate(one.shape) if isinstance(n, str)})
    }
    names = list(dict.fromkeys(_parts(text)[1] for of in axes.values() for text in of.values()))
    ranges = _ranges(sizes, names)
    warm = [_values(text, ranges) for text in warm_up]
    first = warm[0] if warm else {name: _example(ranges[name], i) for i, name in enumerate(names)}
    fixed = [
        replace(one, shape=tuple(n if isinstance(n, int) else _extent(n, first) for n in one.shape)) for one in given
    ]
    return OpenInputs(fixed, axes, [ranges[name] for name in names], warm)


def _ranges(texts: Sequence[str], names: Sequence[str]) -> dict[str, SizeRange]:
    ranges: dict[str, SizeRange] = {}
    for text in texts:
        match = _RANGE.fullmatch(text)
        if match is None:
            raise usage_error(
                "--size has no valid form", repr(text), "NAME=MIN-MAX, or NAME=MIN- without a limit: batch=1-64"
            )
        name, least, most = match[1], int(match[2]), int(match[3]) if match[3] else None
        if name not in names:
            expected = f"one of {', '.join(names)}" if names else "a name among the sizes of --input: x=batch,8"
            raise usage_error("no --input has a size of this name", repr(text), expected)
        if name in ranges:
            raise usage_error("the range of a size is given twice", repr(text), "each size once")
        if most is not None and most < least:
            raise usage_error("the range of a size is empty", repr(text), f"such as {name}={most}-{least}")
        ranges[name] = SizeRange(name, least, most)
    return {name: ranges.get(name, SizeRange(name, 1)) for name in names}


def _values(text: str, ranges: Mapping[str, SizeRange]) -> dict[str, int]:
    matches = [_VALUE.fullmatch(part) for part in text.split(",")]
    values = {match[1]: int(match[2]) for match in matches if match is not None}
    if len(values) != len(matches) or set(values) != set(ranges):
        expected = ",".join(f"{name}=8" for name in ranges) or "sizes that --input leaves open by a name: x=batch,8"
        raise usage_error("--warm-up has no valid form", repr(text), expected)
    for name, value in values.items():
        size = ranges[name]
        if value < size.least or (size.most is not None and value > size.most):
            raise usage_error("--warm-up is out of the range of a size", repr(text), f"{size}")
    return values


def _example(size: SizeRange, number: int) -> int:
    extent = max(_USUAL + number, size.least)
    return extent if size.most is None else min(extent, size.most)


def _parts(text: str) -> tuple[int, str, int]:
    """The factor, the name and the summand of 2*batch+1."""
    match = OPEN_SIZE.fullmatch(text)
    assert match is not None
    return int(match[1] or 1), match[2], int((match[3] or "") + (match[4] or "0"))


def _extent(text: str, values: Mapping[str, int]) -> int:
    factor, name, summand = _parts(text)
    return factor * values[name] + summand


def _dim(text: str, dims: Mapping[str, Any]) -> Any:
    factor, name, summand = _parts(text)
    dim = dims[name] if factor == 1 else factor * dims[name]
    return dim if summand == 0 else dim + summand if summand > 0 else dim - -summand
