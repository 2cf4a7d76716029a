"""The order in which columns are stored whose groups are not one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from npu_base.quantization import ORDER_DTYPE

from npu.quantized.entry import Entry
from npu.quantized.errors import refuse
from npu.quantized.stored import StoredTensor

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

    def of(self, layer: str, group_of: StoredTensor, depth: int, group: int) -> Order | None:
        """The order of a layer, whose columns have these groups, or None if each is in one piece, and they follow each
        other. ``group`` is the number of columns of each; 0 means all."""
        group = group or max(depth, 1)
        groups = group_of.array
        if group_of.code != "I32" or groups.shape != (depth,):
            got = f"{group_of.code} {list(groups.shape)}"
            refuse(group_of.where, "has another dtype or shape", got=got, expected=f"I32 [{depth}]")
        expected = np.arange(depth) // group
        if np.array_equal(groups, expected):
            return None
        columns = np.argsort(groups, kind="stable")
        if not np.array_equal(groups[columns], expected):
            what = "does not give each group its columns"
            refuse(group_of.where, what, got=_counts(groups), expected=f"{group} columns in each group")
        key = groups.tobytes()
        if key not in self._known:
            order = Order(f"{layer}.order", columns.astype(ORDER_DTYPE))
            self._known[key] = order
            where = group_of.where
            self.entries[order.name] = Entry(where, (depth,), ORDER_DTYPE, None, lambda: order.columns, is_made=True)
        return self._known[key]


def _counts(groups: npt.NDArray[np.int32]) -> str:
    values, counts = np.unique(groups, return_counts=True)
    shown = (f"{count} in group {value}" for value, count in zip(values[:3], counts[:3], strict=True))
    return ", ".join(shown) + (", ..." if len(values) > 3 else "")
