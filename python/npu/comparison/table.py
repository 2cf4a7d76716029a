"""A comparison as text."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from npu.comparison.rows import NOTHING_FINITE, Row
from npu.comparison.rule import EPSILON
from npu.consoles import WIDTH

__all__ = ["MOST_ROWS", "print_table", "table_text"]

MOST_ROWS = 20
_ANY_WIDTH = 100_000


class Report(Protocol):
    """What a Comparison is to its table."""

    rows: list[Row]
    sides: tuple[str, str]
    stopped: str

    @property
    def first(self) -> Row | None: ...
    @property
    def beyond(self) -> list[Row]: ...
    @property
    def empty(self) -> list[Row]: ...
    def summary(self) -> str: ...


def chosen_rows(report: Report, top: int | None) -> list[int]:
    """All, or the first one beyond the rule and those that are furthest off, in their order."""
    if top is None or len(report.rows) <= top:
        return list(range(len(report.rows)))
    order = sorted(range(len(report.rows)), key=lambda i: (not report.rows[i].beyond, -_distance(report.rows[i]), i))
    first = [report.rows.index(report.first)] if report.first is not None else []
    return sorted(list(dict.fromkeys([*first, *order]))[: max(top, 1)])


def _distance(row: Row) -> float:
    """Relative to what the dtype resolves, so that steps of different dtypes can be ordered."""
    return row.relative / EPSILON.get(row.dtype, 1.0)


def print_table(report: Report, console: Any, top: int | None = MOST_ROWS) -> None:
    rows = chosen_rows(report, top)
    cells = [_Cells.of(report, i) for i in rows]
    table = _wide_table(report, cells)
    if table.__rich_measure__(console, console.options.update_width(_ANY_WIDTH)).maximum > console.width:
        table = _narrow_table(report, cells)
    console.print(table)
    for line in _notes(report, len(rows)):
        console.print(line, soft_wrap=True)


@dataclass(frozen=True)
class _Cells:
    """Of one step."""

    number: str
    step: str
    kernels: Sequence[str]
    module: str
    line: str
    figures: Sequence[str]
    mark: str
    style: str

    @classmethod
    def of(cls, report: Report, i: int) -> _Cells:
        row = report.rows[i]
        number = str(i) if row.part is None else f"{row.part}: {i}"
        figures = _figures(row)
        if any(row.spread is not None for row in report.rows):
            figures.append("" if row.spread is None else _number(row.spread))
        return cls(
            number, row.step, row.kernels, _first(row.modules), _first(row.sources), figures, _mark(report, row),
            "red" if row.beyond else "",
        )  # fmt: skip


def _figure_headings(cells: list[_Cells]) -> list[tuple[str, bool]]:
    count = max((len(c.figures) for c in cells), default=0)
    return [(name, True) for name in ("Max. diff.", "Relative", "SNR", "Spread")[:count]]


def _table(headings: list[tuple[str, bool]], **options: Any) -> Any:
    from rich.table import Table

    table = Table(**options)
    for heading, right in headings:
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=right)
    return table


def _wide_table(report: Report, cells: list[_Cells]) -> Any:
    has_module, has_line = any(c.module for c in cells), any(c.line for c in cells)
    headings = [("#", True), ("Step", False), *((f"Kernel on {name}", False) for name in report.sides)]
    headings += [("Module", False)] * has_module + [("Line", False)] * has_line
    table = _table([*headings, *_figure_headings(cells), ("", False)])
    for c in cells:
        texts = [c.number, c.step, *c.kernels, *[c.module] * has_module, *[c.line] * has_line, *c.figures, c.mark]
        table.add_row(*texts, style=c.style)
    return table


def _narrow_table(report: Report, cells: list[_Cells]) -> Any:
    """For a terminal that is not wide enough: all texts of a step below each other."""
    table = _table([("#", True), ("Step", False), *_figure_headings(cells)], show_lines=True)
    for c in cells:
        kernels = [f"{side}: {kernel}" for side, kernel in zip(report.sides, c.kernels, strict=True) if kernel]
        module = f"module: {c.module}" if c.module else ""
        step = "\n".join(text for text in (c.step, *kernels, module, c.line, c.mark) if text)
        table.add_row(c.number, step, *c.figures, style=c.style)
    return table


def _first(texts: list[str]) -> str:
    """Of the modules or lines of a step with several; the report has all of them."""
    if not texts:
        return ""
    return texts[0] if len(texts) == 1 else f"{texts[0]} (+{len(texts) - 1})"


def _figures(row: Row) -> list[str]:
    if not row.compared:
        return ["", "", ""]
    snr = "" if row.relative == 0 else "-inf" if math.isinf(row.relative) else f"{row.snr:.0f} dB"
    return [_number(row.absolute), _number(row.relative), snr]


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.2g}"


def _mark(report: Report, row: Row) -> str:
    if row.beyond:
        return "<- first beyond" if row is report.first else "beyond"
    if not row.compared:
        return "not compared"
    return "nothing finite" if row.reason == NOTHING_FINITE else ""


def _notes(report: Report, shown: int) -> list[str]:
    lines = [report.summary()]
    if shown < len(report.rows):
        which = "step with the largest difference" if shown == 1 else f"{shown} steps with the largest differences"
        lines.append(f"The {which}; --all shows every step.")
    if report.first is not None:
        lines += _explained(report, report.first)
    if report.empty:
        count = len(report.empty)
        subject, pronoun, verb = ("step", "it", "proves") if count == 1 else ("steps", "they", "prove")
        lines.append(
            f"In {count} {subject} no result is finite on either side, so {pronoun} {verb} nothing; "
            "try other inputs or weights."
        )
    if report.stopped:
        lines.append(f"Stopped: {report.stopped}; try inputs that are valid indices (--inputs).")
    return lines


def _explained(report: Report, row: Row) -> list[str]:
    where = "".join(f", {name}" for name in (_first(row.modules), _first(row.sources)) if name)
    if row.errors is None or row.allowed is None:
        return [f"{row.step}{where}: {row.reason}"]
    errors = ", ".join(f"{n} {e:.2g}" for n, e in zip(report.sides, row.errors, strict=True))
    tensor = f"{row.tensor}, {row.dtype}{row.shape}"
    return [f"{row.step}{where}: error against float64: {errors}; allowed {row.allowed:.2g} ({tensor})"]


def table_text(report: Report, top: int | None = MOST_ROWS) -> str:
    from rich.console import Console

    text = io.StringIO()
    print_table(report, Console(file=text, width=WIDTH, markup=False, highlight=False), top)
    return text.getvalue()
