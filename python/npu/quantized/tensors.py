"""A quantised weight in memory, as ``npu_base.quantization`` defines it, and the numbers that it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from npu_base.quantization import OFFSETS, ORDER_DTYPE, SCALE_DTYPES, Scheme

from npu.quantized.errors import refuse
from npu.quantized.packing import Bytes, Floats, unpack_rows

__all__ = ["BITS", "FLOATS", "QuantizedTensor", "check_scheme", "dtype_name"]

BITS = (2, 3, 4, 6, 8)
FLOATS: dict[str, npt.DTypeLike] = {
    "float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16,
}  # fmt: skip
_MOST_AT_ONCE = 1 << 24  # elements that are looked at together


def dtype_name(array: Any) -> str:
    return str(array.dtype).removeprefix("torch.")


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """``shape`` is that of the weight, ``data`` its integers as bytes. ``offsets``, ``units`` and ``order`` are None if
    the scheme has none.

    Arrays may be parts of a mapped file.
    """

    scheme: Scheme
    shape: tuple[int, ...]
    data: Bytes
    scales: Floats
    offsets: Floats | None = None
    units: Floats | None = None
    order: npt.NDArray[np.int64] | None = None

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for _, part in self.parts(""))

    def parts(self, name: str) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """The tensors that a program reads instead of the weight ``name``, besides the order, which it may share."""
        for suffix, part in self._parts.items():
            if part is not None:
                yield name + suffix, part

    @property
    def _parts(self) -> dict[str, npt.NDArray[Any] | None]:
        return {"": self.data, ".scales": self.scales, ".offsets": self.offsets, ".units": self.units}

    def integers(self) -> npt.NDArray[Any]:
        """As int8 or uint8."""
        scheme = self.scheme
        values = unpack_rows(self.data, scheme.bits, self.shape[-1])
        if not scheme.signed:
            return values
        shift = np.uint8(8 - scheme.bits)  # moves the sign to the top of the byte, and back
        signed: npt.NDArray[Any] = (values << shift).view(np.int8) >> shift.astype(np.int8)
        return signed

    def dequantize(self, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """The numbers, computed in this dtype: float64 is the definition."""
        scheme, depth = self.scheme, self.shape[-1]
        group = scheme.group or max(depth, 1)
        values = self.integers().astype(dtype)
        for g in range(scheme.groups(depth)):
            part = values[..., g * group : (g + 1) * group]
            scale, offset = self._factors(g, dtype)
            if scheme.offset == "point":
                part -= offset
            part *= scale
            if scheme.offset == "bias":
                part += offset
        if self.order is None:
            return values
        moved = np.empty_like(values)
        moved[..., self.order] = values
        return moved

    def _factors(self, group: int, dtype: npt.DTypeLike) -> tuple[Any, Any]:
        """The scales and offsets of one group of each row."""
        parts = [self.scales] if self.offsets is None else [self.scales, self.offsets]
        factors: list[Any] = [part[..., group : group + 1].astype(dtype) for part in parts]
        if self.units is not None:
            first = group * self.scheme.group // self.scheme.unit * len(factors)
            factors = [x * self.units[..., first + i : first + i + 1].astype(dtype) for i, x in enumerate(factors)]
        return factors[0], factors[-1]

    def rows(self, order: npt.NDArray[np.intp]) -> QuantizedTensor:
        """These rows, in this order."""
        offsets = None if self.offsets is None else self.offsets[order]
        units = None if self.units is None else self.units[order]
        shape = (len(order), *self.shape[1:])
        return QuantizedTensor(self.scheme, shape, self.data[order], self.scales[order], offsets, units, self.order)

    def check(self, where: object) -> QuantizedTensor:
        """This, or an error if the parts do not fit together or scales are not finite."""
        self.check_layout(where)
        for name, part in self.parts(""):
            if name:
                _check_finite(where, name[1:], part)
        if self.order is not None and not np.array_equal(np.sort(self.order), np.arange(self.shape[-1])):
            refuse(where, "the order of its columns does not have each of them once")
        return self

    def check_layout(self, where: object) -> None:
        """Without reading any values."""
        check_scheme(self.scheme, where)
        expected = self.scheme.parts(self.shape)
        for suffix, part in self._parts.items():
            what = suffix[1:] or "packed integers"
            if (part is None) != (suffix not in expected):
                refuse(where, f"{what} do not fit the scheme", got=str(self.scheme))
            if part is not None:
                _check(where, f"the {what} have", part, *expected[suffix])
        if (self.order is None) != (not self.scheme.order):
            refuse(where, "the order of columns does not fit the scheme", got=str(self.scheme))
        if self.order is not None:
            _check(where, "the order of columns has", self.order, ORDER_DTYPE, self.shape[-1:])


def check_scheme(scheme: Scheme, where: object) -> None:
    if scheme.bits not in BITS:
        refuse(where, "unsupported number of bits", got=scheme.bits, expected=f"one of {', '.join(map(str, BITS))}")
    if scheme.group < 0:
        refuse(where, "the group size is negative", got=scheme.group)
    if scheme.offset not in OFFSETS:
        refuse(where, "unknown kind of offset", got=repr(scheme.offset), expected=f"one of {', '.join(OFFSETS)}")
    if scheme.unit:
        if not scheme.fits_units:
            expected = "a unit of whole groups, with scales and offsets of int8"
            refuse(where, "units do not fit the groups", got=str(scheme), expected=expected)
        return
    for dtype in (scheme.scale_dtype, *(() if scheme.offset == "none" else (scheme.offset_dtype,))):
        if dtype not in SCALE_DTYPES:
            expected = f"one of {', '.join(SCALE_DTYPES)}"
            refuse(where, "scales and offsets have an unsupported dtype", got=dtype, expected=expected)


def _check(where: object, what: str, array: npt.NDArray[Any], dtype: str, shape: Sequence[int]) -> None:
    if dtype_name(array) != dtype:
        refuse(where, f"{what} another dtype", got=dtype_name(array), expected=dtype)
    if list(array.shape) != list(shape):
        refuse(where, f"{what} another shape", got=list(array.shape), expected=str(list(shape)))


def _check_finite(where: object, what: str, array: npt.NDArray[Any]) -> None:
    flat = array.reshape(-1)
    for begin in range(0, flat.size, _MOST_AT_ONCE):
        part = flat[begin : begin + _MOST_AT_ONCE]
        finite = np.isfinite(part)
        if not finite.all():
            index = begin + int(np.argmin(finite))
            refuse(where, f"the {what} are not finite", got=f"{flat[index]} at index {index} of {flat.size}")
