"""File names and writing of reports."""

from __future__ import annotations

import re
from pathlib import Path

from torch_ir.files import write_atomically


def write_atomic(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(text.encode("utf-8"), path)


def file_name(model_name: str) -> str:
    """A model's name as a file name: no separators, nothing hidden."""
    return re.sub(r"[^\w.-]", "_", model_name).lstrip(".") or "_"
