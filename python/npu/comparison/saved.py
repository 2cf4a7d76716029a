"""One step in a file: a program, the operands of the step, and what both sides made of them."""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from npu_base.errors import MissingFileError, NPUError
from npu_base.files import as_path, file_error, write_file
from npu_compiler import CompiledProgram
from npu_runtime import Weights
from npu_runtime.errors import InvalidValueError, format_error

__all__ = ["SavedStep", "check_name", "dtype_name", "is_saved_step", "read_header"]

_FORMAT = "npu.step"
_VERSION = "1"
_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
_SUFFIX = ".safetensors"


@dataclass
class SavedStep:
    """A safetensors file. ``operands`` are by value; ``weights``, by name, are what PyTorch reads. ``results`` are for
    people: by side and tensor. The program is the whole one, because it decides kernels and layouts."""

    program: CompiledProgram
    ops: list[str]
    sides: tuple[str, str]
    operands: dict[int, Any]
    weights: dict[str, Any] = field(default_factory=dict)
    ir: Mapping[str, Any] | None = None
    results: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        names = [value["name"] for value in self.program.data["values"]]
        tensors = {f"operand/{v}/{names[v]}": array for v, array in self.operands.items()}
        tensors |= {f"weight/{name}": array for name, array in self.weights.items()}
        tensors |= {f"result/{name}": array for name, array in self.results.items()}
        tensors["program"] = np.frombuffer(self.program.to_bytes(), np.uint8)
        if self.ir is not None:
            tensors["ir"] = np.frombuffer(json.dumps(self.ir).encode(), np.uint8)
        step = {"ops": json.dumps(self.ops), "sides": json.dumps(self.sides)}
        write_file(path, _safetensors(tensors, {"format": _FORMAT, "version": _VERSION, **step}))

    @staticmethod
    def load(path: str | os.PathLike[str]) -> SavedStep:
        metadata = _metadata(path)
        if metadata.get("format") != _FORMAT or metadata.get("version") != _VERSION:
            what, expected = f"{os.fspath(path)} is not a saved step", "a file that `npu compare --save` wrote"
            got = "a safetensors file of something else" if metadata.get("format") != _FORMAT else "another version"
            raise InvalidValueError(format_error("compare", what, got=got, expected=expected))
        try:
            return _read(os.fspath(path), Weights.load(os.fspath(path)), metadata)
        except (NPUError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise InvalidValueError(_damaged(path, error)) from error


def _damaged(path: str | os.PathLike[str], error: Exception) -> str:
    return format_error("compare", f"{os.fspath(path)} is damaged: {error}", action="saving the step again")


def _read(path: str, tensors: Weights, metadata: Mapping[str, str]) -> SavedStep:
    operands, weights = {}, {}
    for name in tensors:
        kind, _, rest = name.partition("/")
        if kind == "operand":
            operands[int(rest.partition("/")[0])] = tensors[name].to_numpy()
        elif kind == "weight":
            weights[rest] = tensors[name].to_numpy()
    program = CompiledProgram.from_bytes(tensors["program"].to_numpy().tobytes(), path)
    first, second = map(str, json.loads(metadata["sides"]))
    ops = [str(name) for name in json.loads(metadata["ops"])]
    ir = json.loads(tensors["ir"].to_numpy().tobytes()) if "ir" in tensors else None
    return SavedStep(program, ops, (first, second), operands, weights, ir)


def is_saved_step(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).endswith(_SUFFIX)


def check_name(path: str | os.PathLike[str]) -> None:
    """Whether a step can be saved there: ``compare`` knows such a file by its name."""
    folder = as_path(path).parent
    if not folder.is_dir():
        raise file_error("write", path, OSError(errno.ENOENT, f"there is no folder '{folder}'"))
    if not is_saved_step(path):
        what, expected = "a step is saved as a safetensors file", f"a name that ends with {_SUFFIX}"
        raise InvalidValueError(format_error("compare", what, got=os.fspath(path), expected=expected))


def dtype_name(text: str) -> str:
    """The name of a dtype in such a file, as we write it."""
    return next((name for name, theirs in _DTYPES.items() if theirs == text), text.lower())


def _safetensors(tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    blocks, offset = [], 0
    # Larger elements first, so that each is aligned.
    for name, array in sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize):
        block = np.ascontiguousarray(array).tobytes()
        end = offset + len(block)
        header[name] = {"dtype": _DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": [offset, end]}
        blocks.append(block)
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *blocks])


def _metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    metadata = read_header(path).get("__metadata__") or {}
    if not isinstance(metadata, dict):
        raise InvalidValueError(_damaged(path, TypeError("its metadata is no object")))
    return metadata


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Of a safetensors file: its tensors by name, and ``__metadata__``."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= size - 8:
                raise ValueError(f"it has {size} bytes")
            return dict(json.loads(file.read(length)).items())
    except FileNotFoundError as error:
        what = f"[compare] file not found: {os.fspath(path)}"
        raise MissingFileError(what, os.fspath(path), errno.ENOENT) from error
    except OSError as error:
        raise file_error("read", path, error) from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        what = f"{os.fspath(path)} is not a safetensors file: {error}"
        raise InvalidValueError(format_error("compare", what)) from None
