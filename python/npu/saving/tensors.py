"""Weights as safetensors, ordered so that each lies at a multiple of 64 bytes where its size allows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, BinaryIO

from npu_base.arguments import tensor_dtype
from npu_base.errors import InternalError
from npu_runtime.host import as_numpy

__all__ = ["as_bytes", "bytes_of", "is_stored_as_bytes", "write_tensors"]

_ALIGNMENT = 64
_DTYPES = {
    "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8", "int16": "I16", "int32": "I32",
    "int64": "I64", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1, "I16": 2, "I32": 4, "I64": 8, "U8": 1, "BOOL": 1}


def write_tensors(file: BinaryIO, tensors: Mapping[str, Any]) -> None:
    """Write buffers, tensors or arrays without gaps, as the format demands.

    Those whose size is a multiple of 64 come first, then those of 32, and so on: each is aligned as its size is. A
    dtype that devices do not have is written as bytes.
    """
    sizes = {name: bytes_of(tensor) for name, tensor in tensors.items()}
    order = sorted(tensors, key=lambda name: (-_alignment(sizes[name]), name))
    header: dict[str, Any] = {"__metadata__": {"format": "npu"}}
    offset = 0
    for name in order:
        dtype, shape = _DTYPES.get(tensor_dtype(tensors[name])), list(tensors[name].shape)
        if dtype is None:
            dtype, shape = _DTYPES["uint8"], [sizes[name]]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + sizes[name]]}
        offset += sizes[name]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        array: Any = as_numpy(tensors[name])  # shares the memory where the host reaches it
        data = memoryview(array.reshape(-1).view("uint8"))
        if data.nbytes != sizes[name]:
            raise InternalError(f"[saved] tensor '{name}' has {data.nbytes} bytes; expected {sizes[name]}")
        file.write(data)


def is_stored_as_bytes(dtype: str) -> bool:
    return dtype not in _DTYPES


def as_bytes(stored: Any, shape: Sequence[int], dtype: str) -> Any:
    """The array in bytes that were stored, or these as they are if they cannot be one."""
    try:
        return stored.view(dtype).reshape(shape)
    except (TypeError, ValueError):
        return stored


def bytes_of(tensor: Any) -> int:
    return prod(tensor.shape) * int(getattr(tensor, "itemsize", 0) or _item_bytes(tensor))


def _item_bytes(buffer: Any) -> int:
    return _ITEM_BYTES[_DTYPES[tensor_dtype(buffer)]]


def _alignment(size: int) -> int:
    return min(_ALIGNMENT, size & -size) if size else 0
