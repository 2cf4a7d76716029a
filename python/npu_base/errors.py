"""The base class of every error that NPU Simulation raises deliberately, and the errors shared by all packages.

Messages have the form

[area] what happened; got <value>; expected <rule>; try <action>
"""

from __future__ import annotations

__all__ = [
    "AbsentError",
    "DeniedFileError",
    "FileError",
    "FolderError",
    "InternalError",
    "InvalidTypeError",
    "InvalidValueError",
    "MissingFileError",
    "NPUError",
    "NPUWarning",
    "NotBuiltError",
    "format_error",
    "is_program",
]


class NPUError(RuntimeError):
    """The base class of all errors of NPU Simulation."""


class NPUWarning(UserWarning):
    """For the user of a program or a command: the line of code that raised it does not matter."""


class InvalidValueError(NPUError, ValueError):
    """An argument, an environment variable or a file has a wrong value."""


class InvalidTypeError(InvalidValueError, TypeError):
    """An argument has the wrong type."""


class NotBuiltError(NPUError, ImportError):
    """A compiled part of the installation is missing."""


class AbsentError(NPUError, AttributeError):
    """An object of this kind has no such attribute, though others of its class do."""


class InternalError(NPUError):
    """A bug in the library; please report it."""


class FileError(NPUError, OSError):
    """A file cannot be read or written. ``filename`` and ``errno`` are those of any OSError."""

    def __init__(self, message: str, path: str | None = None, code: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.filename, self.errno, self.reason = path, code, reason

    __str__ = Exception.__str__  # OSError's own includes the number


class MissingFileError(FileError, FileNotFoundError):
    """The file or its folder does not exist."""


class FolderError(FileError, IsADirectoryError):
    """A file was expected, but the path is a folder."""


class DeniedFileError(FileError, PermissionError):
    """Permission for the file or its folder is missing."""


def format_error(
    area: str, what: str, *, got: object = None, expected: str | None = None, action: str | None = None
) -> str:
    """A message in the common form. Parts that are None are left out."""
    parts = [f"[{area}] {what}"]
    if got is not None:
        parts.append(f"got {got}")
    if expected is not None:
        parts.append(f"expected {expected}")
    if action is not None:
        parts.append(f"try {action}")
    return "; ".join(parts)


def is_program(given: object) -> bool:
    """Whether this is a compiled program, for callers that cannot import its class."""
    return type(given).__name__ in ("CompiledProgram", "Program")
