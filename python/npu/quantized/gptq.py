"""Folders of AutoGPTQ and GPTQModel: integers packed along the depth. The first version of the format stores zero
points less one. Columns that were quantised in another order (act-order) have a group each, ``g_idx``; here they are
stored in the order of groups."""

from __future__ import annotations

from typing import Any

import numpy as np

from npu.quantized.checkpoint import Checkpoint, Entry, take_config
from npu.quantized.columns import ROWS_AT_ONCE, Layer, entries_of, whole_number
from npu.quantized.errors import refuse
from npu.quantized.orders import Orders
from npu.quantized.packing import Bytes, pack_rows, unpack_rows
from npu.quantized.stored import StoredTensors
from npu.quantized.threads import for_rows

__all__ = ["open_gptq"]

_FORMATS = {"gptq": 1, "gptq_v2": 0}
"""What is added to the stored zero points."""


def open_gptq(stored: StoredTensors, config: dict[str, Any]) -> Checkpoint:
    where = stored.path / "config.json"
    config, said = take_config(config, where, "quantization_config")
    bits, group = whole_number(said, where, "bits"), whole_number(said, where, "group_size", least=-1)
    name = said.get("checkpoint_format") or "gptq"
    if not isinstance(name, str) or name not in _FORMATS:
        refuse(where, "unsupported format of GPTQ", got=f"{name!r:.60}", expected=f"one of {', '.join(_FORMATS)}")
    if bits not in (2, 3, 4, 8):
        refuse(where, "unsupported number of bits", got=bits, expected="2, 3, 4 or 8")
    if said.get("dynamic"):
        refuse(where, "layers that are quantised differently are not supported", got="'dynamic'", expected="none")
    added = _FORMATS[name]
    orders = Orders()
    entries = entries_of(stored, bits, max(group, 0), lambda layer: _entry(layer, added, orders))
    return Checkpoint(stored.path, "gptq", config, entries, orders=orders.entries)


def _entry(layer: Layer, added: int, orders: Orders) -> Entry:
    words, rows = layer.qweight.shape
    depth = words * 32 // layer.bits
    order = None if layer.group_of is None else orders.of(layer.name, layer.group_of, depth, layer.group)

    def integers() -> Bytes:
        transposed = np.empty((rows, words), np.int32)

        def fill(part: slice) -> None:
            transposed[part] = layer.qweight.array[:, part].T
            if order is not None:
                values = unpack_rows(transposed[part].view(np.uint8), layer.bits, depth)
                transposed[part] = pack_rows(values[:, order.columns], layer.bits).view(np.int32)

        for_rows(rows, ROWS_AT_ONCE, fill)
        return transposed.view(np.uint8)

    def points() -> Any:
        packed = np.ascontiguousarray(layer.qzeros.array).view(np.uint8)
        return unpack_rows(packed, layer.bits, rows).astype(np.float32) + added

    return layer.entry(depth, (words, rows), integers, points, order)
