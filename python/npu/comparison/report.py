"""What a comparison found: a row for each step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

from npu.comparison.rows import NOTHING_FINITE, Row
from npu.comparison.table import table_text

__all__ = ["Comparison"]


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
        unseen = sum(not row.compared and not row.beyond for row in self.rows)
        return text + (f", {unseen} not compared" if unseen and not self.stopped else "")

    def __repr__(self) -> str:
        return f"Comparison({self.summary()!r})"

    def __str__(self) -> str:
        return table_text(self)
