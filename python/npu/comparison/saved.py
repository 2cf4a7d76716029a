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
from npu_base.files import file_error, write_file
from npu_compiler import CompiledProgram
from npu_runtime import Weights
from npu_runtime.errors import InvalidValueError, format_error

__all__ = ["SavedStep", "is_saved_step"]

_FORMAT = "npu.step"
_VERSION = "1"
_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


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
    return os.fspath(path).endswith(".safetensors")


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
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= size - 8:
                raise ValueError(f"it has {size} bytes")
            return dict(json.loads(file.read(length)).get("__metadata__") or {})
    except FileNotFoundError as error:
        what = f"[compare] file not found: {os.fspath(path)}"
        raise MissingFileError(what, os.fspath(path), errno.ENOENT) from error
    except OSError as error:
        raise file_error("read", path, error) from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        what = f"{os.fspath(path)} is not a safetensors file: {error}"
        raise InvalidValueError(format_error("compare", what)) from None
