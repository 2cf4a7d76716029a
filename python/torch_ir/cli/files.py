"""Reads and writes the files of commands, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from npu_base.errors import FileError

if TYPE_CHECKING:
    from torch_ir.ir import IR

T = TypeVar("T")


class CommandError(Exception):
    """An error to print after ``Error:``. ``status`` overrides the command's exit status."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def read_ir(path: str) -> IR:
    file = Path(path)
    try:
        if file.is_dir():
            raise CommandError(f"invalid IR file: '{path}' is a folder; expected a .json file that save_ir wrote")
        if not file.exists():
            raise CommandError(f"file not found: {path}")
    except (OSError, ValueError) as e:  # for example, the name is too long or has a null byte
        raise CommandError(f"cannot read {path!r}: {_reason(e)}") from e
    from torch_ir.errors import SerializationError
    from torch_ir.progress import status
    from torch_ir.serializer import load_ir

    try:
        with status(f"Loading {path}"):
            return load_ir(file)
    except SerializationError as e:
        raise CommandError(f"invalid IR file: {e}") from e
    except RecursionError as e:
        raise CommandError(f"invalid IR file: '{path}' is nested too deeply for an IR") from e
    except OSError as e:
        raise CommandError(f"cannot read {path}: {_reason(e)}") from e


def describe(ir: IR, work: Callable[[], T]) -> T:
    """Run ``work`` on an IR from a file. If it fails, report the IR's validation errors."""
    from torch_ir.errors import SerializationError
    from torch_ir.serializer import validate_ir

    try:
        return work()
    except (TypeError, AttributeError, KeyError, IndexError, OverflowError) as e:
        try:
            validate_ir(ir)
        except SerializationError as invalid:
            raise CommandError(f"invalid IR file: {invalid}") from e
        except Exception:
            raise CommandError(f"invalid IR file: {type(e).__name__}: {e}") from e
        raise


def emit(text: str, output: str | None) -> None:
    """Write to a file unchanged, or to stdout with a newline."""
    if output is None:
        print(text)
    else:
        write_file(text.encode("utf-8", "backslashreplace"), output)


def write_file(data: bytes, output: str) -> None:
    """Write a file, creating its folder. If this fails, an old file stays unchanged."""
    from npu_base.files import write_file as write_whole

    try:
        write_whole(output, data, parents=True)
    except FileError as e:
        raise CommandError(str(e).removeprefix("[file] ")) from e


def _reason(e: Exception) -> str:
    if isinstance(e, FileError):
        return e.reason
    return (e.strerror or str(e)).lower() if isinstance(e, OSError) else str(e)
