"""What a quantised weight is: small integers, and the scales and offsets that turn them into numbers.

A weight ``W`` of shape ``[..., N, K]`` is cut along its last dimension (the depth of a product) into groups. Element
``k`` of a row belongs to group ``k // group``, and is the integer ``q`` times its group's scale, shifted:

    offset "none"     W[n, k] = scale * q
    offset "point"    W[n, k] = scale * (q - point)
    offset "bias"     W[n, k] = scale * q + bias

If there are units, ``scale`` and ``bias`` or ``point`` are small integers (int8) times the unit of element ``k``, which
is that of ``unit`` elements: ``k // unit``.

``q`` is unsigned (0 to 2^bits - 1), or signed in two's complement. A row of integers is stored as one little-endian
string of bits: element k in the bits from ``k * bits``, lowest first; it ends with zeros up to a whole byte. Two of
four bits share a byte, the first in its low half.

If there is an order, this describes a weight whose columns are moved: column ``k`` of what is stored is column
``order[k]`` of ``W``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MULTIPLES", "OFFSETS", "ORDER_DTYPE", "SCALE_DTYPES", "Scheme"]

OFFSETS = ("none", "point", "bias")
SCALE_DTYPES = ("float16", "bfloat16", "float32")
MULTIPLES = "int8"
"""The dtype of scales and offsets that are multiples of units."""
ORDER_DTYPE = "int64"


@dataclass(frozen=True)
class Scheme:
    """How the weights of one tensor are quantised. ``group`` 0 means a whole row.

    Scales, and biases or points, have the shape ``[..., N, groups]`` and a dtype of ``SCALE_DTYPES`` each. If ``unit``
    is not 0, it is a multiple of ``group``, they are ``MULTIPLES``, and the units have ``unit_dtype`` and the shape
    ``[..., N, units]``: with offsets, those of scales and of offsets in turn.

    ``order`` names a weight of the program, a permutation of the columns in ``ORDER_DTYPE``, which weights may share.
    """

    bits: int
    group: int
    offset: str = "bias"
    signed: bool = False
    scale_dtype: str = "float16"
    offset_dtype: str = "float16"
    unit: int = 0
    unit_dtype: str = "float16"
    order: str = ""

    def groups(self, depth: int) -> int:
        """The number of groups of a row; the last one may be shorter."""
        return 1 if not self.group or not depth else -(-depth // self.group)

    def units(self, depth: int) -> int:
        """The number of units of a row, those of scales and of offsets; the last ones may be of fewer elements."""
        return 0 if not self.unit else -(-depth // self.unit) * (1 if self.offset == "none" else 2)

    @property
    def fits_units(self) -> bool:
        """Whether groups and the dtypes of scales and offsets are as units want them, or without units are floats."""
        dtypes = {self.scale_dtype} if self.offset == "none" else {self.scale_dtype, self.offset_dtype}
        if not self.unit:
            return dtypes <= {*SCALE_DTYPES}
        divided = self.unit > 0 and self.group > 0 and self.unit % self.group == 0
        return divided and dtypes == {MULTIPLES} and self.unit_dtype in SCALE_DTYPES

    @property
    def dtype(self) -> str:
        """A dtype that has all scales."""
        return "float32" if self.unit else self.scale_dtype  # units and their multiples have 24 bits together

    def row_bytes(self, depth: int) -> int:
        return -(-depth * self.bits // 8)

    def stored_shape(self, shape: Sequence[int]) -> list[int]:
        """The shape in bytes of the integers of a weight."""
        return [*shape[:-1], self.row_bytes(shape[-1])]

    def parts(self, shape: Sequence[int]) -> dict[str, tuple[str, list[int]]]:
        """The dtypes and shapes of the tensors that a weight is stored in, by what follows its name."""
        groups = [*shape[:-1], self.groups(shape[-1])]
        parts = {"": ("uint8", self.stored_shape(shape)), ".scales": (self.scale_dtype, groups)}
        if self.offset != "none":
            parts[".offsets"] = (self.offset_dtype, groups)
        if self.unit:
            parts[".units"] = (self.unit_dtype, [*shape[:-1], self.units(shape[-1])])
        return parts

    def __str__(self) -> str:
        group = f"groups of {self.group}" if self.group else "whole rows"
        kind = "signed" if self.signed else "unsigned"
        offset = "" if self.offset == "none" else f", {self.offset} {self.offset_dtype}"
        units = f", {self.unit_dtype} units of {self.unit}" if self.unit else ""
        order = f", columns in '{self.order}'" if self.order else ""
        return f"{self.bits} bits {kind}, {group}, scale {self.scale_dtype}{offset}{units}{order}"
