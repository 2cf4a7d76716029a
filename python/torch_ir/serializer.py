"""IR as JSON text and files: two-space indent, one node or tensor per line."""

from __future__ import annotations

import json
import os
from typing import Any

from npu_base.files import PROGRAM_MAGIC, as_path, read_file, write_file

from .errors import SerializationError
from .ir import IR, SCHEMA_VERSION, check_ir
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
    "write_ir",
]

_REQUIRED = ("graph_inputs", "graph_outputs", "weights", "nodes")


def serialize_ir(ir: IR) -> str:
    check_ir(ir)
    return _layout(ir.to_dict(), "")


def _layout(d: dict[str, Any], indent: str) -> str:
    """Objects of a list go on a line each: quick to write, and a changed node is a changed line."""
    inner = indent + "  "
    lines = []
    for key, value in d.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            items = ",\n".join(f"{inner}  {_compact(item)}" for item in value)
            text = f"[\n{items}\n{inner}]"
        elif isinstance(value, dict) and value and key not in ("input_structure", "output_structure"):
            nested = key == "subgraphs"
            items = ",\n".join(
                f"{inner}  {json.dumps(k)}: {_layout(v, inner + '  ') if nested else _compact(v)}"
                for k, v in value.items()
            )
            text = f"{{\n{items}\n{inner}}}"
        else:
            text = _compact(value)
        lines.append(f"{inner}{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


_compact = json.JSONEncoder(ensure_ascii=False).encode


def deserialize_ir(json_str: str) -> IR:
    try:
        d = json.loads(json_str)
    except (ValueError, TypeError, RecursionError) as e:
        raise SerializationError(f"Invalid JSON: {e}") from e
    return dict_to_ir(d)


def ir_to_dict(ir: IR) -> dict[str, Any]:
    check_ir(ir)
    return ir.to_dict()


def dict_to_ir(d: Any) -> IR:
    if not isinstance(d, dict):
        raise SerializationError(f"Invalid IR format: expected an object, got {type(d).__name__}")
    version = d.get("schema_version", 1)
    if type(version) is not int or version < 1:
        raise SerializationError(f"Invalid IR format: schema_version is {version!r}, expected a positive integer")
    if version > SCHEMA_VERSION:
        raise SerializationError(
            f"Invalid IR format: schema version {version} is newer than {SCHEMA_VERSION}, the newest that this "
            f"version of torch_ir reads; upgrade torch_ir"
        )
    missing = [k for k in _REQUIRED if k not in d]
    if missing:
        raise SerializationError(f"Invalid IR format: missing {', '.join(map(repr, missing))}")
    try:
        return IR.from_dict(d)
    except SerializationError as e:
        raise SerializationError(f"Invalid IR format: {e}") from e
    except KeyError as e:
        raise SerializationError(f"Invalid IR format: missing key {e}") from e
    except (TypeError, ValueError, AttributeError) as e:
        raise SerializationError(f"Invalid IR format: {e}") from e


def save_ir(ir: IR, path: str | os.PathLike[str]) -> None:
    """Write the IR to a file, creating its folder. An old file stays as it was if anything fails."""
    write_file(path, serialize_ir(ir), parents=True)


def write_ir(ir: IR, path: str | os.PathLike[str]) -> None:
    write_file(path, serialize_ir(ir))


def load_ir(path: str | os.PathLike[str]) -> IR:
    file = as_path(path)
    if file.is_dir():
        raise SerializationError(f"Invalid IR file: '{file}' is a folder")
    raw = read_file(file, "IR file not found")
    if raw.startswith(PROGRAM_MAGIC):
        raise SerializationError(f"'{file}' is a compiled program; run it with npu_runtime.Executor or `npu run`")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as e:
        raise SerializationError(f"Invalid JSON: '{file}' is not UTF-8 text: {e}") from e
    return deserialize_ir(text)


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
