"""Folders of AutoGPTQ and GPTQModel: integers packed along the depth. The first version of the format stores zero
points less one."""

from __future__ import annotations

from typing import Any

import numpy as np

from npu.quantized.checkpoint import Checkpoint, Entry, take_config
from npu.quantized.columns import ROWS_AT_ONCE, Layer, entries_of, whole_number
from npu.quantized.errors import refuse
from npu.quantized.packing import Bytes, unpack_rows
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
    return Checkpoint(
        stored.path, "gptq", config, entries_of(stored, bits, max(group, 0), lambda layer: _entry(layer, added))
    )


def _entry(layer: Layer, added: int) -> Entry:
    words, rows = layer.qweight.shape
    depth = words * 32 // layer.bits
    if layer.order is not None:
        _refuse_order(layer, depth)

    def integers() -> Bytes:
        transposed = np.empty((rows, words), np.int32)

        def fill(part: slice) -> None:
            transposed[part] = layer.qweight.array[:, part].T

        for_rows(rows, ROWS_AT_ONCE, fill)
        return transposed.view(np.uint8)

    def points() -> Any:
        packed = np.ascontiguousarray(layer.qzeros.array).view(np.uint8)
        return unpack_rows(packed, layer.bits, rows).astype(np.float32) + added

    return layer.entry(depth, (words, rows), integers, points)


def _refuse_order(layer: Layer, depth: int) -> None:
    """Refuse columns in another order than groups have."""
    assert layer.order is not None
    order = layer.order.array
    if order.shape != (depth,) or not np.array_equal(order, np.arange(depth) // (layer.group or max(depth, 1))):
        what = "its columns are in the order of their activations (desc_act, act-order), which is not supported"
        refuse(layer.where, what, action="a checkpoint that was quantised with desc_act=False")
