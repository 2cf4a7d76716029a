"""The container of GGUF: metadata, and a table of tensors. Nothing in a file is trusted: counts and lengths are
compared with the bytes that are left before anything of their size is made."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from npu.quantized.errors import refuse
from npu.quantized.gguf.blocks import BLOCKS, type_name
from npu.quantized.packing import Bytes
from npu.quantized.stored import map_file

__all__ = ["GGUFFile", "GGUFTensor"]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_LONGEST_KEY = 65535
_LONGEST_NAME = 1024
_MOST_KEYS, _MOST_TENSORS = 1 << 16, 1 << 20
_MOST_ELEMENTS = 1 << 46
_MOST_DIMS = 4
_STRING, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS = {
    0: "u1",
    1: "i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    _BOOL: "u1",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_LEAST_BYTES = {_STRING: 8} | {kind: np.dtype(code).itemsize for kind, code in _NUMBERS.items()}
_AGAIN = "downloading the file again"


@dataclass(frozen=True, eq=False)
class GGUFTensor:
    """``shape`` has the depth last, as NumPy has it; ``kind`` is a number of ggml."""

    where: str
    name: str
    shape: tuple[int, ...]
    kind: int
    bytes: Bytes


class _Cursor:
    """Reads on in the bytes of a file, and never beyond their end."""

    def __init__(self, data: Bytes, path: Path) -> None:
        self.data, self.path, self.at = data, path, 0
        self._view = data.data
        self.what = "the header"

    def refuse(self, what: str, got: object = None, expected: str | None = None, action: str | None = None) -> NoReturn:
        refuse(f"{self.path}: {self.what}", what, got=got, expected=expected, action=action)

    @property
    def left(self) -> int:
        return len(self._view) - self.at

    def take(self, size: int) -> memoryview:
        if size > self.left:
            self.refuse("is cut off", f"{self.left} bytes", f"{size} bytes", _AGAIN)
        self.at += size
        return self._view[self.at - size : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def count(self, most: int, least_bytes: int, what: str) -> int:
        """A count of things that have at least so many bytes each."""
        count: int = self.number("<Q")
        if count > most or count * least_bytes > self.left:
            self.refuse(f"has too many {what}", count, f"at most {min(most, self.left // least_bytes)}")
        return count

    def text(self, longest: int, what: str) -> str:
        raw = self.take(self.count(longest, 1, f"bytes in {what}"))
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError:
            return self.refuse(f"has {what} that is not UTF-8", f"{bytes(raw[:20])!r}")


class GGUFFile:
    """``metadata`` has numbers, texts, lists of texts, and arrays of numbers. Tensors are mapped, not read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = map_file(path)
        cursor = _Cursor(data, path)
        tensors, keys = _read_header(cursor)
        self.metadata: dict[str, Any] = {}
        for i in range(keys):
            cursor.what = f"key {i} of the metadata"
            key = cursor.text(_LONGEST_KEY, "a name")
            cursor.what = f"metadata '{key:.80}'"
            if key in self.metadata:
                cursor.refuse("comes twice")
            self.metadata[key] = _read_value(cursor, cursor.number("<I"))
        infos = [_read_info(cursor, i) for i in range(tensors)]
        alignment = self._alignment(cursor)
        start = cursor.at + -cursor.at % alignment
        self.tensors: dict[str, GGUFTensor] = {}
        reached = 0
        for info in sorted(infos, key=lambda info: info.offset):
            tensor = _place(info, data, start, alignment, path)
            if info.name in self.tensors:
                refuse(tensor.where, "comes twice")
            if info.offset < reached:
                refuse(
                    tensor.where,
                    "overlaps another tensor",
                    got=f"byte {info.offset}",
                    expected=f"byte {reached} or later",
                )
            reached = info.offset + tensor.bytes.size
            self.tensors[info.name] = tensor

    def _alignment(self, cursor: _Cursor) -> int:
        value = self.metadata.get("general.alignment", 32)
        if type(value) is not int or not 8 <= value <= 1 << 20 or value & (value - 1):
            cursor.what = "metadata 'general.alignment'"
            cursor.refuse("is not an alignment", f"{value!r:.60}", "a power of two from 8 on")
        return value


def _read_header(cursor: _Cursor) -> tuple[int, int]:
    """The numbers of tensors and of keys."""
    magic = bytes(cursor.data[:4])
    if magic != _MAGIC:
        refuse(cursor.path, "is not a GGUF file", got=f"the first bytes {magic!r}", expected=repr(_MAGIC))
    cursor.take(4)
    version = cursor.number("<I")
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        got = f"version {swapped} with its bytes in reverse order" if swapped in _VERSIONS else f"version {version}"
        cursor.refuse("has an unsupported version", got, "2 or 3, little-endian")
    return cursor.count(_MOST_TENSORS, 24, "tensors"), cursor.count(_MOST_KEYS, 13, "keys")


def _read_value(cursor: _Cursor, kind: int) -> Any:
    if kind == _STRING:
        return cursor.text(cursor.left, "a text")
    if kind in _NUMBERS:
        return _number(cursor, kind)
    if kind != _ARRAY:
        cursor.refuse("has an unknown type", kind)
    inner = cursor.number("<I")
    if inner not in _LEAST_BYTES:
        cursor.refuse("is an array of an unsupported type", inner, "numbers or texts")
    count = cursor.count(cursor.left, _LEAST_BYTES[inner], "elements")
    if inner == _STRING:
        return [cursor.text(cursor.left, "a text") for _ in range(count)]
    dtype = np.dtype(_NUMBERS[inner])
    array = np.frombuffer(cursor.take(count * dtype.itemsize), dtype)
    return array.astype(bool) if inner == _BOOL else array


def _number(cursor: _Cursor, kind: int) -> Any:
    dtype = np.dtype(_NUMBERS[kind])
    value = np.frombuffer(cursor.take(dtype.itemsize), dtype)[0].item()
    if kind != _BOOL:
        return value
    if value > 1:
        cursor.refuse("is not a truth value", value, "0 or 1")
    return bool(value)


@dataclass(frozen=True)
class _Info:
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


def _read_info(cursor: _Cursor, index: int) -> _Info:
    cursor.what = f"tensor {index}"
    name = cursor.text(_LONGEST_NAME, "a name")
    cursor.what = f"tensor '{name:.80}'"
    dims = cursor.number("<I")
    if not 0 < dims <= _MOST_DIMS:
        cursor.refuse("has an unsupported number of dimensions", dims, f"1 to {_MOST_DIMS}")
    shape = struct.unpack(f"<{dims}Q", cursor.take(8 * dims))[::-1]
    if not 0 < prod(shape) < _MOST_ELEMENTS:
        cursor.refuse("is empty or too large", f"{list(shape)}", "1 to 2^46 elements")
    return _Info(name, shape, cursor.number("<I"), cursor.number("<Q"))


def _place(info: _Info, data: Bytes, start: int, alignment: int, path: Path) -> GGUFTensor:
    where = f"{path}: tensor '{info.name}'"
    block = BLOCKS.get(info.kind)
    if block is None:
        known = ", ".join(one.name for one in BLOCKS.values())
        refuse(where, "has an unsupported type", got=type_name(info.kind), expected=f"one of {known}")
    if info.shape[-1] % block.elements:
        expected = f"a multiple of {block.elements}, which {block.name} packs together"
        refuse(where, "has rows of an unsupported length", got=info.shape[-1], expected=expected)
    if info.offset % alignment:
        refuse(
            where, "does not start at a multiple of the alignment", got=f"byte {info.offset}", expected=f"{alignment}"
        )
    size = prod(info.shape) // block.elements * block.bytes
    if start + info.offset + size > data.size:
        got = f"{data.size} bytes"
        refuse(where, "is cut off", got=got, expected=f"{start + info.offset + size} bytes", action=_AGAIN)
    begin = start + info.offset
    return GGUFTensor(where, info.name, info.shape, info.kind, data[begin : begin + size])
