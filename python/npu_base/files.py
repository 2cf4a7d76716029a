"""Reads files, and writes them atomically, with errors that say what to do."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from npu_base.errors import (
    DeniedFileError,
    FileError,
    FolderError,
    InvalidTypeError,
    MissingFileError,
    NPUError,
    format_error,
)

__all__ = [
    "PROGRAM_MAGIC",
    "SAVED_MAGIC",
    "as_path",
    "check_new_folder",
    "check_target",
    "file_error",
    "make_folder",
    "output_error",
    "read_file",
    "write_file",
    "write_file_with",
    "write_folder_with",
]

PROGRAM_MAGIC = b"\x89NPUBIN\n"
"""The first bytes of an .npubin file, so that readers of other formats can recognise one."""
SAVED_MAGIC = b"\x89NPUSAV\n"
"""The first bytes of a saved file (.npu)."""

_ELSEWHERE = "another file or folder"
_ACTIONS = {
    errno.EISDIR: "the name of a file",
    errno.ENOENT: "an existing folder, or creating this one first",
    errno.ENOTDIR: "a path in an existing folder",
    errno.EEXIST: "another name for the folder, because a file has this name",
    errno.ENOTEMPTY: "the name of a new folder, or removing this one first",
    errno.ENOSPC: "freeing space, or another disk",
    errno.EDQUOT: "freeing space, or another disk",
    errno.EFBIG: "raising the limit on file sizes (ulimit -f), or another disk",
    errno.EACCES: "a file and a folder that you have permission to write",
    errno.EPERM: "a file and a folder that you have permission to write",
    errno.EROFS: "a file and a folder that you have permission to write",
    errno.ENAMETOOLONG: "a shorter name",
}
_WHEN_READING = {
    errno.ENOENT: "the path of a file that exists",
    errno.EACCES: "a file that you have permission to read",
    errno.EPERM: "a file that you have permission to read",
}
_CLASSES: dict[int | None, type[FileError]] = {
    errno.ENOENT: MissingFileError,
    errno.EISDIR: FolderError,
    errno.EACCES: DeniedFileError,
    errno.EPERM: DeniedFileError,
}


def write_file(path: str | os.PathLike[str], data: bytes | memoryview | str, *, parents: bool = False) -> None:
    """Write a file atomically, or raise FileError and leave the old one unchanged. ``parents`` creates its folders.

    The data is written to a temporary file in the same folder, synced, and renamed. Neither a full disk nor a crash
    leaves a partial file. Text is encoded as UTF-8.
    """
    target = _file_path(path)
    try:
        raw = data.encode("utf-8") if isinstance(data, str) else data
        if parents:
            target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file() and not target.is_dir():
            target.write_bytes(raw)  # a device or a pipe must not be replaced by a file
        else:
            _replace(target, lambda file: file.write(raw))
    except (OSError, ValueError) as error:  # ValueError: an invalid file name, or text that UTF-8 cannot encode
        raise file_error("write", path, error) from error


def write_file_with(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Like ``write_file``, for data that is too large to be in memory as a whole.

    ``write`` writes it to the temporary file, and may also seek there and read.
    """
    target = _file_path(path)
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            raise OSError(errno.ESPIPE, "it is not a regular file", str(target))
        _replace(target, write)
    except NPUError:
        raise
    except (OSError, ValueError) as error:
        raise file_error("write", path, error) from error


def write_folder_with(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Write a folder atomically: there is none of this name until ``write`` has filled it.

    ``write`` gets the path of a temporary folder beside it. A folder that has files in it is not replaced.
    """
    target = check_new_folder(path)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", suffix=".tmp", dir=target.parent))
        try:
            write(temporary)
            for path_of_file in temporary.iterdir():
                with open(path_of_file, "rb") as file:
                    os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o777 & ~mask)
            temporary.replace(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(target.parent)
    except NPUError:
        raise
    except OSError as error:
        raise file_error("write", path, error) from error


def check_new_folder(path: str | os.PathLike[str]) -> Path:
    """Where ``write_folder_with`` would write; FileError if it could not, for callers who work long before."""
    target = as_path(path)
    try:
        if target.exists() and not target.is_dir():
            raise FileExistsError(errno.EEXIST, "there is a file of this name", str(target))
        if target.is_dir() and any(target.iterdir()):
            raise OSError(errno.ENOTEMPTY, "the folder is not empty", str(target))
        path_of = target.resolve()
        if not path_of.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"there is no folder '{target.parent}'", str(target))
        if not os.access(path_of.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    except (OSError, ValueError) as error:
        raise file_error("write", path, error) from error
    return path_of


def read_file(path: str | os.PathLike[str], missing: str) -> bytes:
    """The contents of a file, or FileError. ``missing`` is the message if there is no such file."""
    file = as_path(path)
    try:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
        return file.read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"{missing}: {os.fspath(path)}", os.fspath(path), errno.ENOENT) from error
    except (OSError, ValueError) as error:
        raise file_error("read", path, error) from error


def as_path(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path)
    except TypeError:
        got, expected = type(path).__name__, "a string or a pathlib.Path"
        raise InvalidTypeError(format_error("file", "a path has the wrong type", got=got, expected=expected)) from None


def _file_path(path: str | os.PathLike[str]) -> Path:
    """``Path`` would drop the slash of ``name/``, which is a folder."""
    target = as_path(path)
    if os.fspath(path).endswith((os.sep, "/")):
        error = IsADirectoryError(errno.EISDIR, "a path that ends in a slash is a folder", os.fspath(path))
        raise file_error("write", path, error)
    return target


def make_folder(path: str | os.PathLike[str]) -> Path:
    """In a folder that exists, because a mistyped path must not make others."""
    folder = as_path(path)
    try:
        folder.mkdir(exist_ok=True)
    except (OSError, ValueError) as error:
        raise file_error("make the folder", path, error) from error
    return folder


def file_error(doing: str, path: str | os.PathLike[str], error: Exception, action: str | None = None) -> FileError:
    """The error to raise if ``doing`` something to a file failed with ``error``."""
    code = getattr(error, "errno", None)
    reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
    if doing == "read":
        action = action or _WHEN_READING.get(code or 0)
    action = action or _ACTIONS.get(code or 0, _ELSEWHERE)
    message = format_error("file", f"cannot {doing} '{os.fspath(path)}': {reason}", action=action)
    return _CLASSES.get(code, FileError)(message, os.fspath(path), code, reason)


def output_error(error: BaseException) -> FileError | None:
    """The error if a command's standard output cannot be written; such an OSError has no file name."""
    if not isinstance(error, OSError) or error.filename:
        return None
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    return file_error("write", "standard output", error) if is_full else None


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise FileError if a file cannot be written there, for callers who work long before they write it."""
    target = _file_path(path)
    try:
        _check_target(target)
    except (OSError, ValueError) as error:
        raise file_error("write", path, error) from error


def _check_target(target: Path) -> Path:
    """The path that is replaced."""
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(target))
    path = target.resolve()  # keep a symbolic link, and replace what it points to
    if not path.parent.is_dir():
        code = errno.ENOTDIR if path.parent.exists() else errno.ENOENT
        raise OSError(code, f"there is no folder '{target.parent}'", str(target))
    effective = os.access in os.supports_effective_ids
    if path.exists() and not os.access(path, os.W_OK, effective_ids=effective):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    return path


def _replace(target: Path, write: Callable[[BinaryIO], object]) -> None:
    path = _check_target(target)
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(fd, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode_of(path))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename durable. Some file systems do not support this; the file is complete either way."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)


def _mode_of(path: Path) -> int:
    """The old file's permissions, or the default ones; mkstemp creates private files."""
    try:
        return path.stat().st_mode & 0o7777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
