"""What is known of a tensor of the padded run, beside that its real part is that of the run without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from npu.padding.extents import Axis
from npu.padding.ranges import Range, hull
from npu.padding.refusal import Unproven

__all__ = ["EXACT", "HEAD", "PAD", "REAL", "Cell", "Positions", "Value", "cells_of", "is_real"]

HEAD, REAL, PAD = "HRP"
"""The indices of a padded axis: the first one (which is real), all real ones, and padding."""
Cell = Mapping[int, str]
"""For each padded axis, by its number, which indices."""
EXACT = ("int32", "int64")
"""Dtypes in which positions are not rounded."""
_MOST_AXES = 4


def cells_of(axes: Sequence[Axis | None]) -> Iterator[dict[int, str]]:
    padded = [i for i, axis in enumerate(axes) if axis is not None]
    if len(padded) > _MOST_AXES:
        raise Unproven(f"it has {len(padded)} padded dimensions, more than {_MOST_AXES}")
    for kinds in product(HEAD + REAL + PAD, repeat=len(padded)):
        yield dict(zip(padded, kinds, strict=True))


def is_real(cell: Cell) -> bool:
    return PAD not in cell.values()


@dataclass(frozen=True)
class Positions:
    """Integers that are a sum of indices along padded axes, each with its sign, and ``offset``."""

    terms: tuple[tuple[int, int], ...]
    offset: int = 0

    def plus(self, other: Positions, sign: int = 1) -> Positions:
        terms = dict(self.terms)
        for axis, factor in other.terms:
            terms[axis] = terms.get(axis, 0) + sign * factor
        return Positions(tuple((a, f) for a, f in sorted(terms.items()) if f), self.offset + sign * other.offset)

    def moved(self, where: Mapping[int, int]) -> Positions | None:
        """With other axes; None if one of them is gone."""
        if any(axis not in where for axis, _ in self.terms):
            return None
        return Positions(tuple(sorted((where[axis], factor) for axis, factor in self.terms)), self.offset)

    def alone(self) -> int | None:
        """The axis whose indices these are."""
        return self.terms[0][0] if len(self.terms) == 1 and self.terms[0][1] == 1 and not self.offset else None


@dataclass(frozen=True)
class Value:
    """``cells`` has a range for each kind of cell, by the letters of its indices along the padded axes in order.
    ``of_sizes``: it depends on no input but by its size, so all of it is what a run of the larger size has."""

    shape: tuple[Any, ...]
    dtype: str
    axes: tuple[Axis | None, ...]
    cells: Mapping[str, Range]
    positions: Positions | None = None
    of_sizes: bool = False

    @staticmethod
    def of(meta: Any, axes: Sequence[Axis | None], ranges: Callable[[dict[int, str]], Range]) -> Value:
        cells = {"".join(cell.values()): ranges(cell) for cell in cells_of(axes)}
        return Value(tuple(meta.shape), meta.dtype, tuple(axes), cells)

    @property
    def rank(self) -> int:
        return len(self.axes)

    @property
    def padded(self) -> list[int]:
        return [i for i, axis in enumerate(self.axes) if axis is not None]

    @property
    def is_padded(self) -> bool:
        return any(self.axes)

    def at(self, cell: Cell) -> Range:
        """The range of the cells with these indices; axes that are not named may have any."""
        if all(i in cell for i in self.padded):
            return self.cells["".join(cell[i] for i in self.padded)]
        choices = [cell[i] if i in cell else REAL + PAD for i in self.padded]
        return hull(self.cells["".join(kinds)] for kinds in product(*choices))

    def whole(self) -> Range:
        return self.at({})

    def axis(self, dim: int) -> int:
        """A dimension as it may be given, from the end too."""
        return dim + self.rank if dim < 0 else dim
