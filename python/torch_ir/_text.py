"""Writes and reads the JSON of an IR: two-space indent, one node or tensor per line."""

from __future__ import annotations

import json
import os
from typing import Any

from npu_base.files import PROGRAM_MAGIC, as_path, read_file

from .errors import SerializationError

__all__ = ["from_text", "read_text", "to_text"]


def to_text(d: dict[str, Any], indent: str = "") -> str:
    """Each object of a list is one line, so that a diff shows changed nodes as changed lines."""
    inner = indent + "  "
    lines = []
    for key, value in d.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            items = ",\n".join(f"{inner}  {_compact(item)}" for item in value)
            text = f"[\n{items}\n{inner}]"
        elif isinstance(value, dict) and value and key not in ("input_structure", "output_structure"):
            nested = key == "subgraphs"
            items = ",\n".join(
                f"{inner}  {json.dumps(k)}: {to_text(v, inner + '  ') if nested else _compact(v)}"
                for k, v in value.items()
            )
            text = f"{{\n{items}\n{inner}}}"
        else:
            text = _compact(value)
        lines.append(f"{inner}{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


_compact = json.JSONEncoder(ensure_ascii=False).encode


def from_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as e:
        raise SerializationError(f"Invalid JSON: {e}") from e


def read_text(path: str | os.PathLike[str]) -> str:
    file = as_path(path)
    if file.is_dir():
        raise SerializationError(f"Invalid IR file: '{file}' is a folder")
    raw = read_file(file, "IR file not found")
    if raw.startswith(PROGRAM_MAGIC):
        raise SerializationError(f"'{file}' is a compiled program; run it with npu_runtime.Executor or `npu run`")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as e:
        raise SerializationError(f"Invalid JSON: '{file}' is not UTF-8 text: {e}") from e
