"""Folders of AutoAWQ (version "gemm"): integers of four bits packed along the rows, eight in a word, in the order
0, 2, 4, 6, 1, 3, 5, 7."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from npu.quantized.checkpoint import Checkpoint, Entry, take_config
from npu.quantized.columns import ROWS_AT_ONCE, Layer, entries_of, whole_number
from npu.quantized.errors import refuse
from npu.quantized.packing import Bytes, pack_rows
from npu.quantized.stored import StoredTensors
from npu.quantized.threads import for_rows

__all__ = ["open_awq"]

_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""The integer that lies in each four bits of a word, lowest first."""


def open_awq(stored: StoredTensors, config: dict[str, Any]) -> Checkpoint:
    where = stored.path / "config.json"
    config, said = take_config(config, where, "quantization_config")
    bits = whole_number(said, where, "bits", "w_bit")
    group = whole_number(said, where, "group_size", "q_group_size", least=-1)
    version = str(said.get("version", "gemm")).lower()
    if version != "gemm":
        refuse(where, "unsupported version of AWQ", got=f"{version!r:.60}", expected="gemm")
    if bits != 4:
        refuse(where, "unsupported number of bits", got=bits, expected="4")
    return Checkpoint(stored.path, "awq", config, entries_of(stored, bits, max(group, 0), _entry))


def _entry(layer: Layer) -> Entry:
    depth, rows = layer.qweight.shape[0], layer.rows

    def integers() -> Bytes:
        packed = np.empty((rows, -(-depth * layer.bits // 8)), np.uint8)

        def fill(part: slice) -> None:
            columns = layer.qweight.array[:, part.start // 8 : -(-part.stop // 8)]
            values = _unpacked(columns, part.stop - part.start)
            packed[part] = pack_rows(np.ascontiguousarray(values.T), layer.bits)

        for_rows(rows, ROWS_AT_ONCE, fill)
        return packed

    return layer.entry(depth, (depth, -(-rows // 8)), integers, lambda: _unpacked(layer.qzeros.array, rows))


def _unpacked(words: npt.NDArray[np.int32], rows: int) -> Bytes:
    """Integers along the last dimension, eight to a word."""
    values = np.empty((words.shape[0], words.shape[1] * 8), np.uint8)
    for i, column in enumerate(_ORDER):
        values[:, column::8] = (words >> (4 * i)) & 15
    return values[:, :rows]
