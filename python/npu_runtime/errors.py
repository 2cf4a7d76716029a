"""The errors that the runtime raises; the root and those that other packages raise too are in ``npu_base``."""

from __future__ import annotations

from npu_base.errors import (
    FileError,
    InternalError,
    InvalidTypeError,
    InvalidValueError,
    MissingFileError,
    NPUError,
    format_error,
)

__all__ = [
    "FileError",
    "InternalError",
    "InvalidTypeError",
    "InvalidValueError",
    "MissingFileError",
    "MissingOutputError",
    "MissingWeightError",
    "NPUError",
    "UnavailableError",
    "format_error",
]


class MissingWeightError(InvalidValueError, KeyError):
    """Weights that a program reads were not found."""

    __str__ = Exception.__str__  # KeyError's own shows the message in quotes


class MissingOutputError(InvalidValueError, KeyError):
    """A run has no output of this name."""

    __str__ = Exception.__str__


class UnavailableError(NPUError):
    """The machine, or this build, has not got what was asked for."""
