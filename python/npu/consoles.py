"""Consoles of rich for texts of ours, which have brackets that are no markup; and progress bars."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["WIDTH", "ProgressBar", "output_console"]

WIDTH = 180  # where there is no terminal


def output_console(file: IO[str] | None = None) -> Console:
    """Standard output, or a file. Where there is no terminal, lines are long enough that no cell is cut."""
    from rich.console import Console

    console = Console(file=file, markup=False, highlight=False)
    return console if console.is_terminal else Console(file=file, markup=False, highlight=False, width=WIDTH)


class ProgressBar:
    """A progress bar on stderr, if it is visible. Called with what is done, and how many steps of how many."""

    def __init__(self, visible: bool) -> None:
        self._visible, self._what = visible, ""
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ProgressBar:
        if self._visible:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._bar.start()
        return self

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._bar is None:
            return
        if what != self._what:
            self._what = what
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(what, total=total)
        self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
