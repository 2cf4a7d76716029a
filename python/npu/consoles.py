"""Consoles of rich for texts of ours, which have brackets that are no markup."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["WIDTH", "output_console"]

WIDTH = 180  # where there is no terminal


def output_console(file: IO[str] | None = None) -> Console:
    """Standard output, or a file. Where there is no terminal, lines are long enough that no cell is cut."""
    from rich.console import Console

    console = Console(file=file, markup=False, highlight=False)
    return console if console.is_terminal else Console(file=file, markup=False, highlight=False, width=WIDTH)
