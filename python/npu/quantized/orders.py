"""The order in which columns are stored whose groups are not one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from npu_base.quantization import ORDER_DTYPE

from npu.quantized.entry import Entry
from npu.quantized.errors import refuse

if TYPE_CHECKING:
    from npu.quantized.columns import Layer

__all__ = ["Order", "Orders"]


@dataclass(frozen=True, eq=False)
class Order:
    """Column ``k`` of what is stored is column ``columns[k]`` of the weight. Programs have a weight ``name`` for it."""

    name: str
    columns: npt.NDArray[np.int64]


@dataclass(eq=False)
class Orders:
    """Those of a checkpoint. Layers with equal ones, as those of the same inputs have, share one."""

    entries: dict[str, Entry] = field(default_factory=dict)
    _known: dict[bytes, Order] = field(default_factory=dict)

    def of(self, layer: Layer, depth: int) -> Order | None:
        """The order of a layer, or None if each group is in one piece, and they follow each other."""
        if layer.group_of is None:
            return None
        group = layer.group or max(depth, 1)
        groups = layer.group_of.array
        if layer.group_of.code != "I32" or groups.shape != (depth,):
            got = f"{layer.group_of.code} {list(groups.shape)}"
            refuse(layer.group_of.where, "has another dtype or shape", got=got, expected=f"I32 [{depth}]")
        expected = np.arange(depth) // group
        if np.array_equal(groups, expected):
            return None
        columns = np.argsort(groups, kind="stable")
        if not np.array_equal(groups[columns], expected):
            what = "does not give each group its columns"
            refuse(layer.group_of.where, what, got=_counts(groups), expected=f"{group} columns in each group")
        key = groups.tobytes()
        if key not in self._known:
            order = Order(f"{layer.name}.order", columns.astype(ORDER_DTYPE))
            self._known[key] = order
            where = layer.group_of.where
            self.entries[order.name] = Entry(where, (depth,), ORDER_DTYPE, None, lambda: order.columns, is_made=True)
        return self._known[key]


def _counts(groups: npt.NDArray[np.int32]) -> str:
    values, counts = np.unique(groups, return_counts=True)
    shown = (f"{count} in group {value}" for value, count in zip(values[:3], counts[:3], strict=True))
    return ", ".join(shown) + (", ..." if len(values) > 3 else "")
