"""What readers and writers of quantised models raise."""

from __future__ import annotations

from typing import NoReturn

from npu_base.errors import InvalidValueError, format_error

__all__ = ["refuse"]


def refuse(
    where: object, what: str, *, got: object = None, expected: str | None = None, action: str | None = None
) -> NoReturn:
    """``where`` is the file, perhaps with a tensor in it."""
    message = format_error("quantized", f"{where}: {what}", got=got, expected=expected, action=action)
    raise InvalidValueError(message)
