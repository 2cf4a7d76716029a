"""One step in a file: a program, the operands of the step, and what both sides made of them."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from npu_base.files import read_file, write_file
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
        tensors = Weights.load(os.fspath(path))
        ir = tensors.get("ir")
        operands, weights = {}, {}
        for name in tensors:
            kind, _, rest = name.partition("/")
            if kind == "operand":
                operands[int(rest.partition("/")[0])] = tensors[name].to_numpy()
            elif kind == "weight":
                weights[rest] = tensors[name].to_numpy()
        return SavedStep(
            CompiledProgram.from_bytes(tensors["program"].to_numpy().tobytes(), os.fspath(path)),
            json.loads(metadata["ops"]),
            tuple(json.loads(metadata["sides"])),
            operands,
            weights,
            None if ir is None else json.loads(ir.to_numpy().tobytes()),
        )


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
    data = read_file(path, "[compare] file not found")
    try:
        length = struct.unpack_from("<Q", data)[0]
        header = json.loads(data[8 : 8 + length])
        return dict(header.get("__metadata__") or {})
    except (struct.error, ValueError, AttributeError) as error:
        raise InvalidValueError(
            format_error("compare", f"{os.fspath(path)} is not a safetensors file: {error}")
        ) from None
