"""What a generator keeps in a folder from one start to the next. It works without, only slower."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from npu_base.errors import FileError
from npu_base.files import write_file

__all__ = ["Cache", "CacheWarning", "users_cache"]


class CacheWarning(UserWarning):
    """A cache folder cannot be used; what it would hold is made at every start."""


def users_cache() -> Cache | None:
    """Where programs are kept unless the caller says otherwise."""
    try:
        return Cache(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "npu")
    except RuntimeError as error:  # a user without a home
        message = f"{error} Programs are compiled at every start; set --cache or XDG_CACHE_HOME to a folder for them"
        warnings.warn(message, CacheWarning, stacklevel=3)
        return None


class Cache:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._is_broken = False

    def find(self, name: str) -> Path | None:
        """The file of this name, if there is one that can be looked at."""
        path = self.folder / name
        try:
            return path if path.is_file() else None
        except OSError:
            return None

    def keep(self, name: str, data: Any) -> None:
        """Write a file; the first that cannot be written is warned of, and nothing is tried after it."""
        if self._is_broken:
            return
        try:
            write_file(self.folder / name, data, parents=True)
        except FileError as error:
            self._is_broken = True
            message = f"{error}. Programs are not cached in {self.folder}, and are compiled at every start"
            warnings.warn(message, CacheWarning, stacklevel=2)
