"""Exports with sizes that are open: what ``dynamic_shapes`` says, and PyTorch's objections in our words."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from .errors import ExportError, SizeOneError
from .symbols import Symbols
from .tracing import normalize_inputs


def any_size() -> contextlib.AbstractContextManager[Any]:
    """Trace without the assumption that no open size is 0 or 1, so that a model which asks is refused, not wrong."""
    config = torch.fx.experimental._config
    return config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]


def leaf_specs(model: nn.Module, example_inputs: Any, example_kwargs: Any, dynamic_shapes: Any) -> list[Any]:
    """The leaves of the example inputs, in the order of the graph's, and what ``dynamic_shapes`` says of each."""
    from torch._export.non_strict_utils import _flatten_dynamic_shapes
    from torch.export.dynamic_shapes import _combine_args

    combined: Any = _combine_args(model, *normalize_inputs(model, example_inputs, example_kwargs))
    if not isinstance(dynamic_shapes, dict):
        combined = type(dynamic_shapes)(combined.values())
    return list(zip(pytree.tree_leaves(combined), _flatten_dynamic_shapes(combined, dynamic_shapes), strict=False))


def symbols_of(
    exported: ExportedProgram, model: nn.Module, example_inputs: Any, example_kwargs: Any, dynamic_shapes: Any
) -> Symbols:
    if not dynamic_shapes:
        return Symbols()
    return Symbols(exported, [spec for _, spec in leaf_specs(model, example_inputs, example_kwargs, dynamic_shapes)])


_VIOLATION = re.compile(
    r"Not all values of (\S+) = (.+?) in the specified range (?:.*?)satisfy the generated guard (.+?)\.?$", re.MULTILINE
)
_CONSTANT = re.compile(r"(\S+?):? was inferred to be a constant \((\d+)\)|inferred the constant \((\d+)\)")
_AXIS = re.compile(r"L(?:\['args'\])?\['?(\w+)'?\](\S*?)\.size\(\)\[(\d+)\]")


_SIZE_ONE = re.compile(r"\(?(?:(\d+)\*)?L\[[^*+]*\.size\(\)\[\d+\]\)? != (\d+)")


def refused_range(text: str) -> ExportError | None:
    """What the model needs of its sizes, if that is why the export failed."""
    if "Constraints violated" not in text and "conflicts between user-specified ranges" not in text:
        return None
    violations = _VIOLATION.findall(text)
    needs = [
        f"not every value of '{name}' ({_plain(where)}) has {_plain(guard)}, which the model's code depends on"
        for name, where, guard in violations
    ]
    if violations and all(_excludes_one(guard) for *_, guard in violations):
        names = sorted({name for name, *_ in violations})
        dims = ", ".join(f"Dim('{name}', min=2)" for name in names)
        places = dict.fromkeys(f"'{name}' ({_plain(where)}) may be 1" for name, where, _ in violations)
        return SizeOneError(
            f"Failed to export model: The model does not support this range of sizes: {', '.join(places)}, and the "
            f"model's code does something else for a size of 1. Instead, write {dims}, and extract or compile size 1 "
            f"apart, with example inputs of it",
            frozenset(names),
        )
    if not needs:
        lines = [line.strip(" -") for line in text.splitlines() if line.strip().startswith("-")]
        needs = [_plain(line) for line in lines] or [_plain(text.splitlines()[0])]
    _, _, fixes = text.partition("Suggested fixes:\n")
    instead = "; ".join(line.strip() for line in fixes.split("\n\n")[0].splitlines() if line.strip())
    advice = f"write {instead}" if instead else "give the range that it supports, or fix the size"
    return ExportError(
        f"Failed to export model: The model does not support this range of sizes: {'; '.join(needs)}. Instead, {advice}"
    )


def _excludes_one(guard: str) -> bool:
    match = _SIZE_ONE.fullmatch(guard)
    return match is not None and (match[1] or "1") == match[2]


def _plain(text: str) -> str:
    return _AXIS.sub(lambda m: f"dimension {m[3]} of '{m[1]}{m[2]}'", text)
