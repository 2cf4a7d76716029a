"""Files that are either written whole or left as they were."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(data: bytes, target: Path) -> None:
    """Through a file beside the target, so that a full disk or a crash leaves the old one whole."""
    if target.is_dir():
        raise IsADirectoryError(f"Cannot write '{target}': it is a folder; give a file name")
    if target.exists() and not target.is_file():
        target.write_bytes(data)  # a device or a pipe, which must not be replaced by a file
        return
    if not target.parent.is_dir():
        raise FileNotFoundError(2, "No such folder; save_ir makes it", str(target.parent))
    path = target.resolve()  # a link stays a link, to the new contents
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(13, "Permission denied", str(target))
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode_of(path))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _mode_of(path: Path) -> int:
    """The old file's permissions, or those a new file gets; mkstemp's own are private."""
    try:
        return path.stat().st_mode & 0o7777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
