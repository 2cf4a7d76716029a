"""The root of every error that NPU Simulation raises on purpose, and those that any package may raise. Messages read

[area] what happened; got <value>; expected <rule>; try <action>
"""

from __future__ import annotations

__all__ = [
    "DeniedFileError",
    "FileError",
    "FolderError",
    "InternalError",
    "InvalidTypeError",
    "InvalidValueError",
    "MissingFileError",
    "NPUError",
    "NotBuiltError",
    "format_error",
    "is_program",
]


class NPUError(RuntimeError):
    """The root of all errors of NPU Simulation."""


class InvalidValueError(NPUError, ValueError):
    """An argument, an environment variable or a file has a wrong value."""


class InvalidTypeError(InvalidValueError, TypeError):
    """An argument is of a type that makes no sense there."""


class NotBuiltError(NPUError, ImportError):
    """A compiled part of the installation is missing."""


class InternalError(NPUError):
    """A defect in the library itself; please report it."""


class FileError(NPUError, OSError):
    """A file cannot be read or written. ``filename`` and ``errno`` are those of any OSError."""

    def __init__(self, message: str, path: str | None = None, code: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.filename, self.errno, self.reason = path, code, reason

    __str__ = Exception.__str__  # OSError's own shows the number


class MissingFileError(FileError, FileNotFoundError):
    """There is no such file, or no such folder for it."""


class FolderError(FileError, IsADirectoryError):
    """A folder stands where a file was expected."""


class DeniedFileError(FileError, PermissionError):
    """The file or its folder does not permit it."""


def format_error(
    area: str, what: str, *, got: object = None, expected: str | None = None, action: str | None = None
) -> str:
    """The message of an error, in the form all of them have; parts that are None are left out."""
    parts = [f"[{area}] {what}"]
    if got is not None:
        parts.append(f"got {got}")
    if expected is not None:
        parts.append(f"expected {expected}")
    if action is not None:
        parts.append(f"try {action}")
    return "; ".join(parts)


def is_program(given: object) -> bool:
    """Whether it is a compiled program, for those that expect something else and do not know its class."""
    return type(given).__name__ in ("CompiledProgram", "Program")
