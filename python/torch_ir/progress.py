"""A spinner for slow operations, shown only on a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["status"]

_DELAY = 1.0  # seconds before anything is shown


class _Spinner:
    """The one spinner of the process. Operations nest: it shows the innermost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: list[str] = []
        self._timer: threading.Timer | None = None
        self._shown: Any = None

    def push(self, text: str) -> None:
        with self._lock:
            self._texts.append(text)
            if self._shown is not None:
                self._shown.update(_line(text))
            elif self._timer is None:
                self._timer = threading.Timer(_DELAY, self._show)
                self._timer.daemon = True
                self._timer.start()

    def pop(self) -> None:
        with self._lock:
            self._texts.pop()
            if self._texts:
                if self._shown is not None:
                    self._shown.update(_line(self._texts[-1]))
                return
            if self._timer is not None:
                self._timer.cancel()
            if self._shown is not None:
                self._shown.stop()
            self._timer = self._shown = None

    def _show(self) -> None:
        from rich.console import Console
        from rich.errors import LiveError

        with self._lock:
            if not self._texts or self._shown is not None:
                return
            spinner = Console(stderr=True).status(_line(self._texts[-1]))
            with suppress(LiveError):  # the caller shows a display of its own
                spinner.start()
                self._shown = spinner


def _line(text: str) -> Any:
    from rich.text import Text

    return Text(f"{text} ...")  # not markup, which names may look like


_spinner = _Spinner()


@contextmanager
def status(text: str) -> Iterator[None]:
    """Show ``text`` with a spinner on stderr while the block runs, if it runs longer than a second."""
    if not sys.stderr.isatty():
        yield
        return
    _spinner.push(text)
    try:
        yield
    finally:
        _spinner.pop()
