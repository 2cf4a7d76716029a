"""Work on the rows of a tensor, some at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from npu_runtime import get_num_threads

__all__ = ["for_rows"]


def for_rows(rows: int, step: int, work: Callable[[slice], None]) -> None:
    """``work`` for each ``step`` rows, on all threads: NumPy computes without Python's lock."""
    parts = [slice(begin, min(begin + step, rows)) for begin in range(0, rows, step)]
    for _ in _pool(get_num_threads()).map(work, parts) if len(parts) > 1 else map(work, parts):
        pass


@cache  # each new thread would keep memory of its own
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "rows")
