"""The folder in which a generator keeps compiled programs. It is optional, but saves time at every start."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from npu_base.errors import FileError, NPUWarning
from npu_base.files import write_file

__all__ = ["Cache", "CacheWarning", "users_cache"]


class CacheWarning(NPUWarning):
    """A cache folder cannot be used, so programs are compiled at every start."""


def users_cache() -> Cache | None:
    """The default folder."""
    try:
        return Cache(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "npu")
    except RuntimeError as error:  # the user has no home folder
        message = f"{error} Programs are compiled at every start; set --cache or XDG_CACHE_HOME to a folder for them"
        warnings.warn(message, CacheWarning, stacklevel=3)
        return None


class Cache:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._is_broken = False

    def find(self, name: str) -> Path | None:
        """The path of the file, or None if it does not exist or cannot be accessed."""
        path = self.folder / name
        try:
            return path if path.is_file() else None
        except OSError:
            return None

    def keep(self, name: str, data: Any) -> None:
        """Write a file. After the first failure, which is a warning, nothing more is written."""
        if self._is_broken:
            return
        try:
            write_file(self.folder / name, data, parents=True)
        except FileError as error:
            self._is_broken = True
            message = f"{error}. Programs are not cached in {self.folder}, and are compiled at every start"
            warnings.warn(message, CacheWarning, stacklevel=2)
