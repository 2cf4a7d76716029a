"""Exports with sizes that are open: what ``dynamic_shapes`` says, and PyTorch's objections in our words."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from .symbols import Symbols
from .tracing import normalize_inputs


def any_size() -> contextlib.AbstractContextManager[Any]:
    """Trace without the assumption that no open size is 0 or 1, so that a model which asks is refused, not wrong."""
    config = torch.fx.experimental._config
    return config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]


def symbols_of(
    exported: ExportedProgram, model: nn.Module, example_inputs: Any, example_kwargs: Any, dynamic_shapes: Any
) -> Symbols:
    if not dynamic_shapes:
        return Symbols()
    from torch._export.non_strict_utils import _flatten_dynamic_shapes
    from torch.export.dynamic_shapes import _combine_args

    combined: Any = _combine_args(model, *normalize_inputs(model, example_inputs, example_kwargs))
    if not isinstance(dynamic_shapes, dict):
        combined = type(dynamic_shapes)(combined.values())
    return Symbols(exported, _flatten_dynamic_shapes(combined, dynamic_shapes))


_VIOLATION = re.compile(
    r"Not all values of (\S+) = (.+?) in the specified range (?:.*?)satisfy the generated guard (.+?)\.?$", re.MULTILINE
)
_CONSTANT = re.compile(r"(\S+?):? was inferred to be a constant \((\d+)\)|inferred the constant \((\d+)\)")
_AXIS = re.compile(r"L(?:\['args'\])?\['?(\w+)'?\](\S*?)\.size\(\)\[(\d+)\]")


def refused_range(text: str) -> str | None:
    """What the model needs of its sizes, if that is why the export failed."""
    if "Constraints violated" not in text and "conflicts between user-specified ranges" not in text:
        return None
    needs = [
        f"not every value of '{name}' ({_plain(where)}) has {_plain(guard)}, which the model's code depends on"
        for name, where, guard in _VIOLATION.findall(text)
    ]
    if not needs:
        lines = [line.strip(" -") for line in text.splitlines() if line.strip().startswith("-")]
        needs = [_plain(line) for line in lines] or [_plain(text.splitlines()[0])]
    _, _, fixes = text.partition("Suggested fixes:\n")
    instead = "; ".join(line.strip() for line in fixes.split("\n\n")[0].splitlines() if line.strip())
    advice = f"write {instead}" if instead else "give the range that it supports, or fix the size"
    alone = sorted(
        {(name, guard[-1]) for name, _, guard in _VIOLATION.findall(text) if guard.endswith((" != 1", " != 0"))}
    )
    if alone and len(alone) == len(needs):
        dims = ", ".join(f"Dim('{name}', min={int(n) + 1})" for name, n in alone)
        advice = f"write {dims}, and extract or compile size {alone[0][1]} apart, with example inputs of it"
    return f"The model does not support this range of sizes: {'; '.join(needs)}. Instead, {advice}"


def _plain(text: str) -> str:
    return _AXIS.sub(lambda m: f"dimension {m[3]} of '{m[1]}{m[2]}'", text)
