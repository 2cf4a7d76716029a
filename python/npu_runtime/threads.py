"""The number of threads that the library uses."""

from __future__ import annotations

from operator import index

from npu_runtime import _core
from npu_runtime.errors import InvalidValueError, format_error

__all__ = ["get_num_threads", "set_num_threads"]

_RULE = f"an integer from 1 to {_core.MAX_THREADS}"


def get_num_threads() -> int:
    """From `set_num_threads`, else from NPU_NUM_THREADS, else one per usable physical core."""
    return _core.get_num_threads()


def set_num_threads(count: int) -> None:
    """Set the number of threads for the whole process.

    Raises:
        InvalidValueError: the count is not a whole number from 1.
    """
    try:
        if isinstance(count, bool):
            raise TypeError
        value = index(count)
    except TypeError:
        message = format_error(
            "threads",
            "the number of threads is not an integer",
            got=f"{count!r} ({type(count).__name__})",
            expected=_RULE,
        )
        raise InvalidValueError(message) from None
    if not 1 <= value <= _core.MAX_THREADS:
        # Checked here too, because a number beyond 32 bits would not reach the check in C++.
        message = format_error(
            "threads",
            "the number of threads is out of range",
            got=value,
            expected=_RULE,
            action="npu_runtime.cpu_info().usable_cores",
        )
        raise InvalidValueError(message)
    _core.set_num_threads(value)
