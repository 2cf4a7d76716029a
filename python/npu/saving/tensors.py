"""Weights as safetensors, ordered so that each lies at a multiple of 64 bytes where its size allows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, BinaryIO, NamedTuple

from npu_base.arguments import tensor_dtype
from npu_base.errors import InternalError
from npu_runtime.host import as_numpy

__all__ = ["DTYPES", "TensorLayout", "as_bytes", "bytes_of", "is_stored_as_bytes", "tensor_layout", "write_tensors"]

_ALIGNMENT = 64
DTYPES = {
    "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8", "int16": "I16", "int32": "I32",
    "int64": "I64", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1, "I16": 2, "I32": 4, "I64": 8, "U8": 1, "BOOL": 1}


class TensorLayout(NamedTuple):
    """Where tensors lie in a file: ``offsets`` are from its first byte on, in their order."""

    header: bytes
    offsets: dict[str, int]


def tensor_layout(tensors: Mapping[str, tuple[str, Sequence[int], int]], kind: str) -> TensorLayout:
    """Of tensors with these dtypes (as the format names them), shapes and bytes, without gaps, as the format demands.

    Those whose size is a multiple of 64 come first, then those of 32, and so on: each is aligned as its size is.
    ``kind`` says what the tensors are for.
    """
    order = sorted(tensors, key=lambda name: (-_alignment(tensors[name][2]), name))
    header: dict[str, Any] = {"__metadata__": {"format": kind}}
    offsets, reached = {}, 0
    for name in order:
        dtype, shape, size = tensors[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [reached, reached + size]}
        offsets[name] = reached
        reached += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    start = len(text) + 8
    return TensorLayout(
        len(text).to_bytes(8, "little") + text, {name: start + offset for name, offset in offsets.items()}
    )


def write_tensors(file: BinaryIO, tensors: Mapping[str, Any]) -> None:
    """Write buffers, tensors or arrays. A dtype that devices do not have is written as bytes."""
    sizes = {name: bytes_of(tensor) for name, tensor in tensors.items()}
    layout = tensor_layout({name: (*_stored_as(tensors[name], sizes[name]), sizes[name]) for name in tensors}, "npu")
    file.write(layout.header)
    for name in layout.offsets:
        array: Any = as_numpy(tensors[name])  # shares the memory where the host reaches it
        data = memoryview(array.reshape(-1).view("uint8"))
        if data.nbytes != sizes[name]:
            raise InternalError(f"[saved] tensor '{name}' has {data.nbytes} bytes; expected {sizes[name]}")
        file.write(data)


def _stored_as(tensor: Any, size: int) -> tuple[str, list[int]]:
    dtype = DTYPES.get(tensor_dtype(tensor))
    return (DTYPES["uint8"], [size]) if dtype is None else (dtype, list(tensor.shape))


def is_stored_as_bytes(dtype: str) -> bool:
    return dtype not in DTYPES


def as_bytes(stored: Any, shape: Sequence[int], dtype: str) -> Any:
    """The array in bytes that were stored, or these as they are if they cannot be one."""
    try:
        return stored.view(dtype).reshape(shape)
    except (TypeError, ValueError):
        return stored


def bytes_of(tensor: Any) -> int:
    return prod(tensor.shape) * int(getattr(tensor, "itemsize", 0) or _item_bytes(tensor))


def _item_bytes(buffer: Any) -> int:
    return _ITEM_BYTES[DTYPES[tensor_dtype(buffer)]]


def _alignment(size: int) -> int:
    return min(_ALIGNMENT, size & -size) if size else 0
