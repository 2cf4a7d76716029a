"""Compiled programs and their files, as specified in docs/program-format.md."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

import numpy as np
from npu_base.errors import InvalidTypeError
from npu_base.files import PROGRAM_MAGIC, read_file, write_file
from npu_base.specs import TensorSpec

from .errors import ProgramError
from .listing import listing
from .validate import validate

__all__ = ["FORMAT_VERSION", "CompiledProgram", "TensorSpec"]

FORMAT_VERSION = 3  # 1: products had no scales and offsets; 2: and no units
_HEADER = struct.Struct("<8sIIQQQQ16s")
_PRIME, _MASK = 0x100000001B3, 0xFFFFFFFFFFFFFFFF


def checksum(data: bytes) -> int:
    h = 0xCBF29CE484222325
    for word in np.frombuffer(data + b"\0" * (-len(data) % 8), "<u8").tolist():
        h = ((h ^ word) * _PRIME) & _MASK
        h ^= h >> 32
    return h


class CompiledProgram:
    """A device-independent program. ``data`` is the JSON of its file, and ``constants`` its last section."""

    def __init__(self, data: dict[str, Any], constants: bytes = b"") -> None:
        self.data = data
        self.constants = constants

    @property
    def model_name(self) -> str:
        return str(self.data["model_name"])

    @property
    def input_specs(self) -> list[TensorSpec]:
        return self._specs("inputs")

    @property
    def output_specs(self) -> list[TensorSpec]:
        return self._specs("outputs")

    @property
    def weight_specs(self) -> list[TensorSpec]:
        """The weights that the program reads."""
        return self._specs("weights")

    @property
    def weight_name_mapping(self) -> dict[str, str]:
        """From names in the IR's graph to names in the state dict."""
        return dict(self.data.get("weight_name_mapping", {}))

    def _specs(self, section: str) -> list[TensorSpec]:
        values = self.data["values"]
        return [
            TensorSpec(entry["name"], list(values[entry["value"]]["shape"]), values[entry["value"]]["dtype"])
            for entry in self.data[section]
        ]

    def to_bytes(self) -> bytes:
        text = json.dumps(self.data, separators=(",", ":"), allow_nan=False).encode()
        offset = -(-(_HEADER.size + len(text)) // 64) * 64
        body = text + b"\0" * (offset - _HEADER.size - len(text)) + self.constants
        header = (PROGRAM_MAGIC, FORMAT_VERSION, 0, len(text), offset, len(self.constants), checksum(body), b"")
        return _HEADER.pack(*header) + body

    @staticmethod
    def from_bytes(data: bytes, where: str = "the program") -> CompiledProgram:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InvalidTypeError(
                f"[compiler] these are not the contents of a program; got {type(data).__name__}; expected bytes"
            )
        data = bytes(data)
        if data[:8] != PROGRAM_MAGIC:
            hint = "; if it is an IR, compile it with npu_compiler.compile" if data[:1] == b"{" else ""
            raise ProgramError(
                f"[compiler] {where} is not a compiled program: it does not start like a .npubin file{hint}"
            )
        if len(data) < _HEADER.size:
            raise ProgramError(f"[compiler] {where} is damaged: it ends after {len(data)} bytes")
        _, version, zero, length, offset, size, want, rest = _HEADER.unpack_from(data)
        if version > FORMAT_VERSION:
            raise ProgramError(
                f"[compiler] {where} has format version {version}; this compiler reads up to {FORMAT_VERSION}; "
                "compile the model again or update"
            )
        if 0 < version < FORMAT_VERSION:
            raise ProgramError(
                f"[compiler] {where} has format version {version}, of an older version of npu-simulation; "
                f"this compiler reads {FORMAT_VERSION}; compile the model again"
            )
        if version < 1 or zero or any(rest):
            raise ProgramError(f"[compiler] {where} is damaged: its header is invalid")
        if _HEADER.size + length > offset or offset % 64 or offset + size != len(data):
            raise ProgramError(f"[compiler] {where} is damaged: its sections do not add up to its {len(data)} bytes")
        if checksum(data[_HEADER.size :]) != want:
            raise ProgramError(f"[compiler] {where} is damaged: its checksum does not match")
        try:
            text = json.loads(data[_HEADER.size : _HEADER.size + length])
            validate(text, size)
        except (ValueError, RecursionError) as error:
            raise ProgramError(f"[compiler] {where} is damaged: {error}") from None
        return CompiledProgram(text, data[offset:])

    def save(self, path: str | os.PathLike[str]) -> None:
        """If saving fails, an existing file is left unchanged."""
        write_file(path, self.to_bytes())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> CompiledProgram:
        data = read_file(path, "[compiler] program not found")
        return CompiledProgram.from_bytes(data, os.fspath(path))

    def text(self) -> str:
        """A readable listing."""
        return listing(self.data)

    def __repr__(self) -> str:
        counts = ", ".join(f"{k}={len(self.data[k])}" for k in ("inputs", "outputs", "weights", "prepare", "main"))
        return f"CompiledProgram(model_name={self.model_name!r}, {counts})"
