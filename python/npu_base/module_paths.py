"""The paths of modules that nodes of an IR carry."""

from __future__ import annotations

import re

__all__ = ["levels", "split_call"]

_CALL = re.compile(r"@(\d+)$")


def split_call(path: str) -> tuple[str, int]:
    """``cell.linear@2`` as the module and its call, counted from 0."""
    match = _CALL.search(path)
    return (path[: match.start()], int(match[1])) if match else (path, 0)


def levels(module: str) -> list[str]:
    """The modules around and including one. ``layers.0`` is one level, because lists are not called."""
    parts = module.split(".") if module else []
    ends = [
        i
        for i in range(1, len(parts) + 1)
        if i == len(parts) or not (parts[i].isdigit() and not parts[i - 1].isdigit())
    ]
    return [".".join(parts[:i]) for i in ends]
