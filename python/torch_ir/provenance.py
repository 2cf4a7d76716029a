"""The module and source line of a traced node."""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from pathlib import Path

import torch
from torch import fx

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in ')
_TORCH_DIR = str(Path(torch.__file__).parent)


def module_path_of(node: fx.Node) -> str | None:
    """Dotted path of the innermost module; ``@n`` marks its n-th further call."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return None
    key, (path, _) = next(reversed(stack.items()))
    _, at, call = str(key).rpartition("@")
    return f"{path}@{call}" if at and call.isdigit() else path


def source_of(node: fx.Node) -> str | None:
    """``file:line`` of the innermost frame outside PyTorch."""
    trace = node.meta.get("stack_trace")
    return _innermost(trace) if trace else None


@lru_cache(maxsize=4096)
def _innermost(trace: str) -> str | None:
    # Graphs that were traced twice have frames of generated code, such as <eval_with_key>.
    frames = [f for f in _FRAME.findall(trace) if not f[0].startswith("<")]
    outside = [f for f in frames if not f[0].startswith(_TORCH_DIR)]
    if not frames:
        return None
    path, line = (outside or frames)[-1]
    return f"{_portable(path)}:{line}"


@lru_cache(maxsize=1024)
def _portable(path: str) -> str:
    """The path relative to an import root or the current folder, so that it is the same on every machine."""
    file = Path(path)
    roots = [Path(p) for p in sys.path if p]
    fitting = [root for root in (*roots, Path.cwd()) if root in file.parents]
    if not fitting:
        return file.name
    return file.relative_to(max(fitting, key=lambda r: len(r.parts))).as_posix()
