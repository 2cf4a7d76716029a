"""A comparison as text."""

from __future__ import annotations

import io
import math
from typing import Any, Protocol

from npu.comparison.rows import NOTHING_FINITE, Row
from npu.comparison.rule import EPSILON

__all__ = ["MOST_ROWS", "WIDTH", "print_table", "table_text"]

WIDTH = 180  # where there is no terminal
MOST_ROWS = 20


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
    from rich.markup import escape
    from rich.table import Table

    rows = chosen_rows(report, top)
    headings: list[tuple[str, bool]] = [("#", True), ("Step", False)]
    headings += [(f"Kernel on {name}", False) for name in report.sides]
    has_module = any(row.modules for row in report.rows)
    has_source = any(row.sources for row in report.rows)
    has_spread = any(row.spread is not None for row in report.rows)
    headings += [("Module", False)] * has_module + [("Line", False)] * has_source
    headings += [("Max. diff.", True), ("Relative", True), ("SNR", True)]
    headings += [("Spread", True)] * has_spread + [("", False)]
    table = Table()
    for heading, right in headings:
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for i in rows:
        row = report.rows[i]
        cells = [str(i) if row.part is None else f"{row.part}: {i}", row.step, *row.kernels]
        cells += [_first(row.modules)] * has_module + [_first(row.sources)] * has_source + _figures(row)
        cells += ["" if row.spread is None else _number(row.spread)] * has_spread
        cells.append(_mark(report, row))
        table.add_row(*map(escape, cells), style="red" if row.beyond else "")
    console.print(table)
    for line in _notes(report, len(rows)):
        console.print(escape(line), highlight=False, soft_wrap=True)


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
        lines.append(f"The {shown} steps with the largest differences; --all shows every step.")
    if report.first is not None:
        lines += _explained(report, report.first)
    if report.empty:
        lines.append(
            f"In {len(report.empty)} steps no result is finite on either side, so they prove nothing; "
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
    print_table(report, Console(file=text, width=WIDTH), top)
    return text.getvalue()
