"""What a comparison found: a row for each step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, overload

__all__ = ["Comparison", "Row"]


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


class Comparison:
    """The steps in the order in which they ran. Iterating gives rows."""

    def __init__(self, model: str, sides: tuple[str, str]) -> None:
        self.model, self.sides = model, sides
        self.rows: list[Row] = []
        self.stopped = ""  # why the steps after the last row did not run
        self.peak_bytes = 0  # the most that tensors took at once, without those of devices
        self.outputs: dict[str, Any] = {}  # of the first side
        self.saved: Path | None = None  # the file that has the operands of one step

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self.rows[index]

    @property
    def beyond(self) -> list[Row]:
        """The steps that are beyond the rule for numbers."""
        return [row for row in self.rows if row.beyond]

    @property
    def first(self) -> Row | None:
        """The first of them."""
        return next((row for row in self.rows if row.beyond), None)

    @property
    def agrees(self) -> bool:
        return self.first is None and not self.stopped

    @property
    def empty(self) -> list[Row]:
        """Steps whose results say nothing, because they are NaN or infinite everywhere."""
        return [row for row in self.rows if row.compared and row.reason == NOTHING_FINITE]

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "sides": list(self.sides),
            "agrees": self.agrees,
            "first": None if self.first is None else self.rows.index(self.first),
            "stopped": self.stopped,
            "peak_bytes": self.peak_bytes,
            "steps": [row.to_dict() for row in self.rows],
        }

    def summary(self) -> str:
        a, b = self.sides
        text = f"{self.model}: {len(self.rows)} step{'' if len(self.rows) == 1 else 's'} on {a} and {b}"
        if a == b:
            text += " (the same device twice)"
        first = self.first
        if first is not None:
            count = len(self.beyond)
            text += f"; {count} beyond the rule, the first is {self.rows.index(first)}, {first.step}"
        elif not self.stopped:
            text += ", none beyond the rule for numbers"
        return text

    def __repr__(self) -> str:
        return f"Comparison({self.summary()!r})"

    def __str__(self) -> str:
        from npu.comparison.table import table_text

        return table_text(self)


NOTHING_FINITE = "no finite number on either side"
