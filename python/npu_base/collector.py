"""Pauses the search for garbage in cycles while much is built that lives on."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]


class _Pauses:
    """How many run at once, in any thread, and whether the last to end turns the collector on again."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = 0
        self.resumes = False

    def begin(self) -> None:
        with self.lock:
            if self.running == 0:
                self.resumes = gc.isenabled()
                gc.disable()
            self.running += 1

    def end(self) -> None:
        with self.lock:
            self.running -= 1
            if self.running == 0 and self.resumes:
                gc.enable()


_pauses = _Pauses()


@contextmanager
def collector_paused() -> Iterator[None]:
    """A collection visits every object of the process. With PyTorch imported it takes as long as compiling a size, and
    the new objects of a compilation would cause one."""
    _pauses.begin()
    try:
        yield
    finally:
        _pauses.end()
