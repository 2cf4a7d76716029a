"""The rows of a comparison."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["NOTHING_FINITE", "Row"]

NOTHING_FINITE = "no finite number on either side"


@dataclass
class Row:
    """One step on both sides, with the same operands. The figures are those of ``tensor``, the result that is furthest
    off; SNR is in dB. Errors are relative and taken against the step in float64; they are None if both results are so
    close that it does not matter."""

    step: str
    ops: list[str] = field(default_factory=list)  # the kinds of the ops in it
    nodes: list[str] = field(default_factory=list)  # of the IR
    modules: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)  # lines of code
    kernels: tuple[str, str] = ("", "")
    tensor: str = ""
    dtype: str = ""
    shape: list[int] = field(default_factory=list)
    absolute: float = 0.0
    relative: float = 0.0
    snr: float = math.inf
    errors: tuple[float, float] | None = None  # of both sides
    allowed: float | None = None  # for either of them
    beyond: bool = False
    reason: str = ""  # why it is beyond the rule, or why nothing was compared
    compared: bool = True
    spread: float | None = None  # relative, if the second side goes on with its own results
    part: int | None = None  # of a partitioned model

    def to_dict(self) -> dict[str, Any]:
        return {key: _plain(value) for key, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    """JSON has no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return [_plain(x) for x in value] if isinstance(value, list | tuple) else value
