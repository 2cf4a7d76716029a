"""File names and writing of reports."""

from __future__ import annotations

import re
from pathlib import Path

from npu_base.files import write_file


def write_atomic(path: Path, text: str) -> None:
    write_file(path, text, parents=True)


def file_name(model_name: str) -> str:
    """A model's name as a file name: no separators, nothing hidden."""
    return re.sub(r"[^\w.-]", "_", model_name).lstrip(".") or "_"
