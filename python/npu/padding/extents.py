"""Extents as products, and axes that contain a padded size: which indices are real, and where a reshape puts them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from npu_base.sizes import Size, Tree, evaluate, free_names, parsed

from npu.padding.refusal import Unproven

__all__ = ["ONE", "Axis", "Extent", "axis_of", "least_of", "product_of", "reshaped"]


@dataclass(frozen=True)
class Extent:
    """``factor`` times ``atoms``: names of sizes, and expressions that are no products."""

    factor: int = 1
    atoms: tuple[str, ...] = ()

    @staticmethod
    def of(extent: int | Size) -> Extent:
        return Extent._of_tree(parsed(extent.text)) if isinstance(extent, Size) else Extent(extent)

    @staticmethod
    def _of_tree(tree: Tree) -> Extent:
        if type(tree) is int:
            return Extent(tree)
        if isinstance(tree, tuple) and tree[0] == "*":
            return Extent._of_tree(tree[1]) * Extent._of_tree(tree[2])
        if isinstance(tree, tuple) and tree[0] == "**" and tree[2] in (2, 3):
            return product_of([Extent._of_tree(tree[1])] * tree[2])
        return Extent(1, (_text(tree),))

    def __mul__(self, other: Extent) -> Extent:
        return Extent(self.factor * other.factor, tuple(sorted(self.atoms + other.atoms)))

    def divided_by(self, other: Extent) -> Extent | None:
        """None if it does not go in for all sizes."""
        atoms = list(self.atoms)
        for atom in other.atoms:
            if atom not in atoms:
                return None
            atoms.remove(atom)
        if other.factor == 0 or self.factor % other.factor:
            return None
        return Extent(self.factor // other.factor, tuple(atoms))

    def of_symbol(self, symbol: str) -> list[str]:
        """The atoms that depend on a size."""
        return [atom for atom in self.atoms if symbol in free_names(atom)]


ONE = Extent()


def product_of(extents: Iterable[Extent]) -> Extent:
    product = ONE
    for extent in extents:
        product = product * extent
    return product


def _text(tree: Tree) -> str:
    """The same for all ways to write one tree."""
    if not isinstance(tree, tuple):
        return str(tree)
    name, *operands = tree
    texts = [_text(operand) for operand in operands]
    return f"{name}({', '.join(texts)})" if name[0].isalpha() else f"({f' {name} '.join(texts)})"


@dataclass(frozen=True)
class Axis:
    """An axis whose indices are ``outer`` x ``size`` x ``inner``, row-major. Real are those below the real value of
    ``size``, an expression of the padded size; the rest is padding."""

    outer: Extent
    size: str
    inner: Extent

    @property
    def is_simple(self) -> bool:
        return self.outer == ONE == self.inner

    @property
    def extent(self) -> Extent:
        return self.outer * Extent(1, (self.size,)) * self.inner


def axis_of(extent: int | Size, symbol: str) -> Axis | None:
    """The axis of an extent of which a prefix is real; None if it does not depend on the padded size."""
    if not isinstance(extent, Size) or symbol not in free_names(extent.text):
        return None
    whole = Extent.of(extent)
    (size, *more) = whole.of_symbol(symbol)
    if more:
        raise Unproven(f"a dimension has '{symbol}' more than once: {extent}")
    if not _grows(parsed(size), symbol):
        raise Unproven(f"the extent {extent} is not known to grow with '{symbol}'")
    inner = whole.divided_by(Extent(1, (size,)))
    assert inner is not None
    return Axis(ONE, size, inner)


def _grows(tree: Tree, symbol: str) -> bool:
    """Whether a tree never gets less as the size grows, for any values of the others."""
    if not isinstance(tree, tuple):
        return True
    name, *operands = tree
    if not all(_grows(operand, symbol) for operand in operands):
        return False
    if name in ("+", "min", "max"):
        return True
    last: Any = operands[-1]
    if name == "-":
        return symbol not in free_names(_text(last))
    if name in ("*", "//"):  # by a positive number
        return any(type(n) is int and n > 0 for n in (operands[1:] if name == "//" else operands))
    return False


def least_of(axis: Axis, symbol: str, least: int) -> int | None:
    """The least number of real indices, if it depends on the padded size alone."""
    return int(evaluate(axis.size, {symbol: least})) if free_names(axis.size) == {symbol} else None


def reshaped(
    before: Sequence[Extent], axes: Sequence[Axis | None], after: Sequence[Extent]
) -> dict[int, tuple[int, Axis]]:
    """Where a row-major reshape has the padded axes: by the old axis, the new one and its layout."""
    where: dict[int, tuple[int, Axis]] = {}
    for old, new in _groups(before, after):
        padded = [i for i in old if axes[i] is not None]
        if not padded:
            continue
        if len(padded) > 1:
            raise Unproven("it merges two padded dimensions")
        (i,) = padded
        axis = axes[i]
        assert axis is not None
        outer = product_of(before[k] for k in old if k < i) * axis.outer
        inner = axis.inner * product_of(before[k] for k in old if k > i)
        where[i] = _axis_among(Axis(outer, axis.size, inner), new, after)
    return where


def _axis_among(axis: Axis, new: Sequence[int], after: Sequence[Extent]) -> tuple[int, Axis]:
    for j in new:
        outer = axis.outer.divided_by(product_of(after[k] for k in new if k < j))
        inner = axis.inner.divided_by(product_of(after[k] for k in new if k > j))
        if outer is not None and inner is not None:
            candidate = Axis(outer, axis.size, inner)
            if candidate.extent == after[j]:
                return j, candidate
    raise Unproven("it splits a padded dimension in a way that does not keep its real part together")


def _groups(before: Sequence[Extent], after: Sequence[Extent]) -> list[tuple[range, range]]:
    """Runs of old and new axes with the same product, as short as they can be."""
    groups = []
    i = j = 0
    while i < len(before) or j < len(after):
        m, n = min(i + 1, len(before)), min(j + 1, len(after))
        while (old := product_of(before[i:m])) != (new := product_of(after[j:n])):
            if n < len(after) and (m == len(before) or old.divided_by(new) is not None):
                n += 1
            elif m < len(before):
                m += 1
            else:
                raise Unproven("the extents before and after it are not known to have the same product")
        groups.append((range(i, m), range(j, n)))
        i, j = m, n
    return groups
