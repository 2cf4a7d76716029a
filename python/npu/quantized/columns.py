"""Layers as AutoGPTQ and AutoAWQ store them: ``qweight``, ``qzeros`` and ``scales``, transposed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from npu_base.quantization import Scheme

from npu.quantized.checkpoint import Entry, is_count, plain_entry
from npu.quantized.errors import refuse
from npu.quantized.orders import Order
from npu.quantized.packing import Bytes
from npu.quantized.stored import StoredTensor, StoredTensors
from npu.quantized.tensors import QuantizedTensor, check_scheme

__all__ = ["ROWS_AT_ONCE", "Layer", "entries_of", "whole_number"]

ROWS_AT_ONCE = 256
"""Rows that are transposed together: whole words of 8, and some lines of the cache of each column."""

_PARTS = ("qzeros", "scales", "g_idx")
_POINTS = "float16"  # has all integers of 8 bits, and 256


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight of ``rows`` rows of ``depth``, with ``group`` columns a group (0: all)."""

    name: str
    qweight: StoredTensor
    qzeros: StoredTensor
    scales: StoredTensor
    group_of: StoredTensor | None
    bits: int
    group: int

    @property
    def where(self) -> str:
        return self.qweight.where

    @property
    def rows(self) -> int:
        return self.scales.shape[-1]

    def entry(
        self,
        depth: int,
        words: tuple[int, int],
        integers: Callable[[], Bytes],
        points: Callable[[], npt.NDArray[Any]],
        order: Order | None = None,
    ) -> Entry:
        """``words`` is the shape of ``qweight``; ``integers`` reads rows as bytes, their columns in this order, and
        ``points`` [groups, rows]."""
        name, columns = (order.name, order.columns) if order is not None else ("", None)
        dtype = self.scales.array.dtype.name
        scheme = Scheme(self.bits, self.group, "point", False, dtype, _POINTS, order=name)
        check_scheme(scheme, self.where)
        if self.group and depth % self.group:
            refuse(self.where, "the group size does not divide its rows", got=f"{self.group}, rows of {depth}")
        groups = scheme.groups(depth)
        shapes = {
            self.qweight: ("I32", words), self.qzeros: ("I32", (groups, -(-self.rows * self.bits // 32))),
            self.scales: (self.scales.code, (groups, self.rows)),
        }  # fmt: skip
        for tensor, (code, shape) in shapes.items():
            if tensor.code != code or tensor.shape != shape:
                got = f"{tensor.code} {list(tensor.shape)}"
                refuse(tensor.where, "has another dtype or shape", got=got, expected=f"{code} {list(shape)}")
        shape = (self.rows, depth)

        def read() -> QuantizedTensor:
            scales = np.ascontiguousarray(self.scales.array.T)
            offsets = np.ascontiguousarray(points().T.astype(_POINTS))
            return QuantizedTensor(scheme, shape, integers(), scales, offsets, order=columns)

        sources = [tensor.bytes for tensor in (self.qweight, self.qzeros, self.scales)]
        return Entry(self.where, shape, scheme.scale_dtype, scheme, read, sources, is_made=True)


def entries_of(stored: StoredTensors, bits: int, group: int, entry_of: Callable[[Layer], Entry]) -> dict[str, Entry]:
    """All tensors, those of quantised layers as their ``weight``."""
    entries = {}
    for name, tensor in stored.items():
        layer, _, part = name.rpartition(".")
        if part == "qweight":
            entries[f"{layer}.weight"] = entry_of(_layer(stored, layer, bits, group))
        elif part not in _PARTS or f"{layer}.qweight" not in stored:
            entries[name] = plain_entry(tensor)
    return entries


def whole_number(said: dict[str, Any], where: object, *keys: str, least: int = 1) -> int:
    """The value of the first of these keys that is there."""
    value: Any = next((said[key] for key in keys if key in said), None)
    if not is_count(value, least):
        refuse(where, f"'{keys[0]}' is not a whole number", got=f"{value!r:.60}", expected=f"at least {least}")
    return int(value)


def _layer(stored: StoredTensors, name: str, bits: int, group: int) -> Layer:
    qweight = stored[f"{name}.qweight"]
    for part in ("qzeros", "scales"):
        if f"{name}.{part}" not in stored:
            refuse(qweight.where, "has packed integers alone", expected=f"a tensor '{name}.{part}'")
    qzeros, scales = stored[f"{name}.qzeros"], stored[f"{name}.scales"]
    for tensor in (qweight, qzeros, scales):
        if len(tensor.shape) != 2:
            refuse(tensor.where, "has another shape", got=list(tensor.shape), expected="two dimensions")
    return Layer(name, qweight, qzeros, scales, stored.get(f"{name}.g_idx"), bits, group)
