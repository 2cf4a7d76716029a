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
        self._live: Any = None  # of rich, while it is shown
        self._line: Any = None

    def push(self, text: str) -> None:
        with self._lock:
            self._texts.append(text)
            if self._live is not None:
                self._line.update(text=_line(text))
            elif self._timer is None:
                self._timer = threading.Timer(_DELAY, self._show)
                self._timer.daemon = True
                self._timer.start()

    def pop(self) -> None:
        with self._lock:
            self._texts.pop()
            if self._texts:
                if self._live is not None:
                    self._line.update(text=_line(self._texts[-1]))
                return
            if self._timer is not None:
                self._timer.cancel()
            if self._live is not None:
                self._live.stop()
            self._timer = self._live = None

    def _show(self) -> None:
        from rich.console import Console
        from rich.errors import LiveError
        from rich.live import Live
        from rich.spinner import Spinner

        with self._lock:
            if not self._texts or self._live is not None:
                return
            # Not console.status: it replaces sys.stdout, which whoever runs meanwhile may have replaced and restored.
            self._line = Spinner("dots", _line(self._texts[-1]), style="green")
            live = Live(
                self._line, console=Console(stderr=True), transient=True, refresh_per_second=12.5, redirect_stdout=False
            )
            with suppress(LiveError):  # the caller shows a display of its own
                live.start()
                self._live = live


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
