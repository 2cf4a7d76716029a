"""Tensors in safetensors files, mapped: names, dtypes and shapes are checked, values are not touched."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import ml_dtypes
import numpy as np
import numpy.typing as npt
from npu_base.errors import InvalidValueError
from npu_runtime._core import File

from npu.quantized.errors import refuse

__all__ = [
    "CODES",
    "StoredTensor",
    "StoredTensors",
    "file_of",
    "map_file",
    "open_stored",
    "parse_json",
    "read_json_file",
]

_DTYPES: dict[str, npt.DTypeLike] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I64": np.int64,
    "I32": np.int32, "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16,
    "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
CODES = {np.dtype(dtype).name: code for code, dtype in _DTYPES.items()}
"""What the format calls NumPy's dtypes."""
_LONGEST_HEADER = 100_000_000  # as in the library that defines the format
_LONGEST_JSON = 64 << 20
_MOST_DIMS = 8
_MOST_ELEMENTS = 1 << 46
_INDEX = ".safetensors.index.json"


@dataclass(frozen=True, eq=False)
class StoredTensor:
    file: Path
    name: str
    dtype: np.dtype[Any] | None  # None if NumPy has no such dtype; ``code`` is its name in the file
    code: str
    shape: tuple[int, ...]
    bytes: npt.NDArray[np.uint8]

    @property
    def where(self) -> str:
        return f"{self.file}: tensor '{self.name}'"

    @cached_property
    def array(self) -> npt.NDArray[Any]:
        """The values, as they lie in the mapped file."""
        if self.dtype is None:
            refuse(self.where, "has a dtype that is not supported", got=self.code)
        return self.bytes.view(self.dtype).reshape(self.shape)


class StoredTensors(Mapping[str, StoredTensor]):
    """The tensors of a checkpoint in one or several files."""

    def __init__(self, path: Path, tensors: dict[str, StoredTensor]) -> None:
        self.path, self._tensors = path, tensors

    def __getitem__(self, name: str) -> StoredTensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def open_stored(folder: Path) -> StoredTensors:
    """Of a folder with one .safetensors file, or several with or without an index."""
    indices = sorted(folder.glob(f"*{_INDEX}"))
    if len(indices) > 1:
        refuse(folder, "the folder has more than one checkpoint", got=", ".join(path.name for path in indices))
    listed = _read_index(indices[0]) if indices else {}
    files = sorted({folder / name for name in listed.values()}) or sorted(folder.glob("*.safetensors"))
    if not files:
        refuse(folder, "the folder has no weights", expected="at least one .safetensors file")
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        for tensor in _read_tensors(file):
            if listed and listed.get(tensor.name) != file.name:
                continue  # tensors that the index does not list are not part of the model
            if tensor.name in tensors:
                refuse(tensor.where, "is in two files", got=tensors[tensor.name].file.name)
            tensors[tensor.name] = tensor
    missing = next((name for name in listed if name not in tensors), None)
    if missing is not None:
        refuse(indices[0], f"tensor '{missing}' is not in '{listed[missing]}', where the index puts it")
    return StoredTensors(folder, tensors)


def map_file(path: Path) -> npt.NDArray[np.uint8]:
    """The bytes of a file, which are read when they are touched."""
    file = File.open(path)
    data: Any = file  # speaks the buffer protocol, which types of Python 3.10 cannot say
    return np.frombuffer(data, np.uint8) if len(file) else np.zeros(0, np.uint8)


def file_of(array: npt.NDArray[Any]) -> File | None:
    """The mapped file that this is a part of."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    owner = owner.obj if isinstance(owner, memoryview) else owner
    return owner if isinstance(owner, File) else None


def read_json_file(path: Path) -> dict[str, Any]:
    """The object in a file that is small, as configurations are."""
    data = map_file(path)
    if data.size > _LONGEST_JSON:
        refuse(path, "the file is too large", got=f"{data.size} bytes", expected=f"at most {_LONGEST_JSON} bytes")
    return parse_json(data.tobytes(), path)


def parse_json(text: bytes, where: object) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            refuse(where, "a key comes twice", got=f"{twice!r:.60}")
        return result

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except InvalidValueError:
        raise
    except (ValueError, RecursionError) as error:
        refuse(where, "is not valid JSON", got=str(error) or type(error).__name__)
    if not isinstance(value, dict):
        refuse(where, "is not an object", got=type(value).__name__)
    return value


def _read_index(path: Path) -> dict[str, str]:
    """The file of each tensor."""
    listed = read_json_file(path).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        refuse(path, "is not a weight index", expected="an object 'weight_map'")
    for name, file in listed.items():
        if not isinstance(file, str) or Path(file).name != file or file in ("", ".", ".."):
            expected = "a file in the folder of the index"
            refuse(path, f"the file of tensor '{name}' is not a plain name", got=f"{file!r:.60}", expected=expected)
    return listed


def _read_tensors(path: Path) -> list[StoredTensor]:
    data = map_file(path)
    if data.size < 8:
        refuse(path, "is not a safetensors file", got=f"{data.size} bytes")
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > _LONGEST_HEADER:
        refuse(path, "is not a safetensors file", got=f"a header of {length} bytes")
    if length > data.size - 8:
        refuse(path, "the file is cut off", got=f"{data.size} bytes", action="downloading the file again")
    header = parse_json(data[8 : 8 + length].tobytes(), f"{path}: the header")
    body = data[8 + length :]
    tensors = [_read_tensor(path, name, entry, body) for name, entry in header.items() if name != "__metadata__"]
    _refuse_overlaps(tensors)
    return tensors


def _read_tensor(path: Path, name: str, entry: Any, body: npt.NDArray[np.uint8]) -> StoredTensor:
    def wrong(what: str, got: object = None) -> NoReturn:
        refuse(f"{path}: tensor '{name:.200}'", what, got=got)

    if not isinstance(entry, dict):
        wrong("is not an object", type(entry).__name__)
    code: Any = entry.get("dtype")
    shape: Any = entry.get("shape")
    ends: Any = entry.get("data_offsets")
    if not isinstance(code, str):
        wrong("has no valid 'dtype'", f"{code!r:.60}")
    if not _are_counts(shape) or len(shape) > _MOST_DIMS or prod(shape) >= _MOST_ELEMENTS:
        wrong("has no valid 'shape'", f"{shape!r:.60}")
    if not _are_counts(ends) or len(ends) != 2 or not ends[0] <= ends[1] <= body.size:
        wrong("has no valid 'data_offsets'", f"{ends!r:.60}")
    dtype = np.dtype(_DTYPES[code]) if code in _DTYPES else None
    size = ends[1] - ends[0]
    if dtype is not None and prod(shape) * dtype.itemsize != size:
        wrong("has a size that does not match its shape and dtype", f"{size} bytes")
    return StoredTensor(path, name, dtype, code, tuple(shape), body[ends[0] : ends[1]])


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < _MOST_ELEMENTS for n in value)


def _refuse_overlaps(tensors: list[StoredTensor]) -> None:
    filled = sorted((t for t in tensors if t.bytes.size), key=lambda t: t.bytes.ctypes.data)
    for before, after in pairwise(filled):
        if after.bytes.ctypes.data < before.bytes.ctypes.data + before.bytes.size:
            refuse(after.where, f"overlaps tensor '{before.name}'")
