"""Encodes attribute values and constants as JSON, without loss.

A value of a type that JSON lacks becomes an object with one key that starts with ``$``:
``{"$dtype": "float32"}``, ``{"$device": "cpu"}``, ``{"$layout": "strided"}``,
``{"$memory_format": "channels_last"}``, ``{"$complex": [re, im]}``, ``{"$tensor": {...}}``.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from typing import Any

import torch
from npu_base.sizes import Size

from .errors import SerializationError
from .ops.schemas import argument_kind

DTYPES: dict[str, torch.dtype] = {
    str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)
}
_LAYOUTS = {str(v).removeprefix("torch."): v for v in vars(torch).values() if isinstance(v, torch.layout)}
_MEMORY_FORMATS = {str(v).removeprefix("torch."): v for v in vars(torch).values() if isinstance(v, torch.memory_format)}
_COMPRESS_FROM = 256  # bytes; below this, compression saves less than zlib's header takes


def dtype_to_str(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def dtype_from_str(name: str) -> torch.dtype:
    try:
        return DTYPES[name.removeprefix("torch.")]
    except (KeyError, AttributeError):
        raise SerializationError(f"Unknown dtype {name!r}") from None


def encode_attr(value: Any, where: str) -> Any:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as e:
            raise SerializationError(f"{where}: text that is not valid Unicode: {e}") from e
        return value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [encode_attr(v, where) for v in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key.startswith("$"):
                raise SerializationError(f"{where}: dict keys must be strings that do not start with '$', got {key!r}")
        return {k: encode_attr(v, where) for k, v in value.items()}
    if isinstance(value, torch.dtype):
        return {"$dtype": dtype_to_str(value)}
    if isinstance(value, torch.device):
        return {"$device": str(value)}
    if isinstance(value, torch.layout):
        return {"$layout": str(value).removeprefix("torch.")}
    if isinstance(value, torch.memory_format):
        return {"$memory_format": str(value).removeprefix("torch.")}
    if isinstance(value, complex):
        return {"$complex": [value.real, value.imag]}
    if isinstance(value, Size):
        return {"$size": value.text}
    if isinstance(value, torch.Tensor):
        return {"$tensor": encode_constant(value, where)}
    raise SerializationError(f"{where}: cannot write a value of type {type(value).__name__}: {value!r}")


def _named(table: dict[str, Any], name: Any, what: str) -> Any:
    if not isinstance(name, str) or name.removeprefix("torch.") not in table:
        raise SerializationError(f"Unknown {what} {name!r}")
    return table[name.removeprefix("torch.")]


_DECODERS = {
    "$dtype": lambda v: _named(DTYPES, v, "dtype"),
    "$device": torch.device,
    "$layout": lambda v: _named(_LAYOUTS, v, "layout"),
    "$memory_format": lambda v: _named(_MEMORY_FORMATS, v, "memory format"),
    "$size": Size,
    "$complex": lambda v: complex(*v),
    "$tensor": lambda v: decode_constant(v, "attribute"),
}

# Older files have plain strings such as "torch.float32". Only the operator's schema distinguishes them from text.
_FROM_SCHEMA_KIND = {
    "dtype": "$dtype",
    "device": "$device",
    "layout": "$layout",
    "memory_format": "$memory_format",
}


def decode_attr(value: Any, op_type: str, name: str) -> Any:
    if isinstance(value, list):
        return [decode_attr(v, op_type, name) for v in value]
    if isinstance(value, dict):
        if len(value) == 1:
            (tag, inner), *_ = value.items()
            if tag in _DECODERS:
                try:
                    return _DECODERS[tag](inner)
                except (TypeError, ValueError, RuntimeError) as e:
                    raise SerializationError(f"Attribute '{name}' of {op_type}: {tag} {inner!r}: {e}") from e
        return {k: decode_attr(v, op_type, name) for k, v in value.items()}
    if isinstance(value, str):
        tag = _FROM_SCHEMA_KIND.get(argument_kind(op_type, name) or "")
        if tag:
            return decode_attr({tag: value}, op_type, name)
    return value


def encode_constant(tensor: torch.Tensor, where: str) -> dict[str, Any]:
    """Shape, dtype and little-endian bytes, compressed if that makes them shorter."""
    if tensor.is_quantized:
        raise SerializationError(f"{where}: cannot write a quantized tensor ({tensor.dtype})")
    if tensor.is_meta or tensor.layout != torch.strided:
        raise SerializationError(f"{where}: cannot write a {tensor.layout} tensor on device {tensor.device}")
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    raw = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    packed, encoding = raw, "base64"
    if len(raw) >= _COMPRESS_FROM:
        squeezed = zlib.compress(raw, 6)
        if len(squeezed) < len(raw):
            packed, encoding = squeezed, "zlib+base64"
    return {
        "shape": list(tensor.shape),
        "dtype": dtype_to_str(tensor.dtype),
        "encoding": encoding,
        "data": base64.b64encode(packed).decode("ascii"),
    }


def decode_constant(d: Any, where: str) -> torch.Tensor:
    if not isinstance(d, dict) or "data" not in d or "dtype" not in d:
        raise SerializationError(f"{where}: expected an object with 'data' and 'dtype', got {str(d)[:80]}")
    dtype = dtype_from_str(d["dtype"])
    if "encoding" not in d:
        return _decode_nested(d, dtype, where)
    shape = d.get("shape")
    if not isinstance(shape, list) or not all(type(s) is int and s >= 0 for s in shape):
        raise SerializationError(f"{where}: expected a shape of non-negative integers, got {shape!r}")
    expected = math.prod(shape) * dtype.itemsize
    raw = _unpack(d["data"], d["encoding"], expected, where)
    if len(raw) != expected:
        raise SerializationError(f"{where}: {len(raw)} bytes of data, expected {expected} for {d['dtype']} {shape}")
    if not raw:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(dtype).reshape(shape)


def _unpack(data: Any, encoding: str, expected: int, where: str) -> bytes:
    if encoding not in ("base64", "zlib+base64"):
        raise SerializationError(f"{where}: unknown encoding {encoding!r}; expected 'base64' or 'zlib+base64'")
    try:
        packed = base64.b64decode(data, validate=True)
        if encoding == "base64":
            return packed
        inflate = zlib.decompressobj()
        # One byte more than declared detects wrong sizes, and limits the memory that a file can make us use.
        return inflate.decompress(packed, expected + 1)
    except (binascii.Error, zlib.error, TypeError, ValueError) as e:
        raise SerializationError(f"{where}: damaged data: {e}") from e


def _decode_nested(d: dict[str, Any], dtype: torch.dtype, where: str) -> torch.Tensor:
    """The older form: nested lists. Without a shape, the nesting implies it."""
    try:
        data = d["data"]
        if dtype.is_complex:
            data = _complex_lists(data)
        tensor = torch.tensor(data, dtype=dtype)
        return tensor.reshape(d["shape"]) if "shape" in d else tensor
    except (TypeError, ValueError, RuntimeError) as e:
        raise SerializationError(f"{where}: damaged data: {e}") from e


def _complex_lists(data: Any) -> Any:
    if isinstance(data, list):
        return [_complex_lists(v) for v in data]
    return complex(data) if isinstance(data, str) else data
