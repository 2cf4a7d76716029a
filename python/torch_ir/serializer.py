"""Reads and writes IR as JSON text and files."""

from __future__ import annotations

import os
from typing import Any

from npu_base.files import write_file

from ._text import from_text, to_text
from .errors import SerializationError
from .ir import IR, check_ir, dict_to_ir
from .validation import validate_ir

__all__ = [
    "IRSerializer",
    "SerializationError",
    "deserialize_ir",
    "dict_to_ir",
    "ir_to_dict",
    "load_ir",
    "save_ir",
    "serialize_ir",
    "validate_ir",
]


def serialize_ir(ir: IR) -> str:
    """The IR as text.

    Raises:
        SerializationError: a value has no form as JSON.
    """
    check_ir(ir)
    return to_text(ir.to_dict())


def deserialize_ir(json_str: str) -> IR:
    """The IR that ``serialize_ir`` wrote as text.

    Raises:
        SerializationError: the text is not an IR.
    """
    return dict_to_ir(from_text(json_str))


def ir_to_dict(ir: IR) -> dict[str, Any]:
    """The IR as a dict of JSON types.

    Raises:
        SerializationError: a value has no form as JSON.
    """
    check_ir(ir)
    return ir.to_dict()


def save_ir(ir: IR, path: str | os.PathLike[str]) -> None:
    """Write the IR to a file, creating its folder. If this fails, an old file stays unchanged.

    Raises:
        FileError: the file cannot be written.
        SerializationError: a value has no form as JSON.
    """
    write_file(path, serialize_ir(ir), parents=True)


def load_ir(path: str | os.PathLike[str]) -> IR:
    """The IR in a file.

    Raises:
        FileError: the file cannot be read.
        SerializationError: it is not an IR.
    """
    return IR.load(path)


class IRSerializer:
    """Serialization with ``validate_ir`` before writing and after reading."""

    def __init__(self, validate: bool = True) -> None:
        self.validate = validate

    def _checked(self, ir: IR) -> IR:
        if self.validate:
            validate_ir(ir)
        return ir

    def serialize(self, ir: IR) -> str:
        return serialize_ir(self._checked(ir))

    def deserialize(self, json_str: str) -> IR:
        return self._checked(deserialize_ir(json_str))

    def save(self, ir: IR, path: str | os.PathLike[str]) -> None:
        save_ir(self._checked(ir), path)

    def load(self, path: str | os.PathLike[str]) -> IR:
        return self._checked(load_ir(path))
