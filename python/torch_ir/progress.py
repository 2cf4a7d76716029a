"""A spinner for slow operations, shown only on a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_DELAY = 1.0  # seconds before anything is shown


@contextmanager
def status(text: str) -> Iterator[None]:
    """Show ``text`` with a spinner on stderr while the block runs, if it runs longer than a second."""
    if not sys.stderr.isatty():
        yield
        return
    bars: list[Any] = []
    lock = threading.Lock()
    done = False

    def show() -> None:
        from rich.console import Console

        with lock:
            if not done:
                spinner = Console(stderr=True).status(f"{text} ...")
                spinner.start()
                bars.append(spinner)

    timer = threading.Timer(_DELAY, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            done = True
            for spinner in bars:
                spinner.stop()
