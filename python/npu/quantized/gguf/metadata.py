"""What a GGUF file says about its model, by name and type."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from npu.quantized.errors import refuse
from npu.quantized.gguf.file import GGUFFile

__all__ = ["Metadata"]

_MOST = 1 << 31


class Metadata:
    """Keys that start with a dot are those of the file's architecture. None as ``default`` means: required."""

    def __init__(self, file: GGUFFile) -> None:
        self._values, self.path = file.metadata, file.path
        self.architecture = self.text("general.architecture")

    def __contains__(self, key: str) -> bool:
        return self._key(key) in self._values

    def count(self, key: str, default: int | None = None, least: int = 1) -> int:
        value = self._get(key, default)
        if type(value) is not int or not least <= value < _MOST:
            self.refuse(key, "is not a count", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        if type(value) not in (int, float) or not np.isfinite(value):
            self.refuse(key, "is not a finite number", value)
        return float(value)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            self.refuse(key, "is not a text", value)
        return value

    def truth(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "is not a truth value", value)
        return value

    def texts(self, key: str) -> list[str]:
        value = self._get(key, None)
        if not isinstance(value, list):
            self.refuse(key, "is not a list of texts", value)
        return value

    def array(self, key: str, length: int) -> np.ndarray[Any, Any]:
        value = self._get(key, None)
        if not isinstance(value, np.ndarray) or len(value) != length:
            self.refuse(key, f"is not an array of {length} numbers", value)
        return value

    def refuse(self, key: str, what: str, got: object, expected: str | None = None) -> NoReturn:
        refuse(f"{self.path}: metadata '{self._key(key)}'", what, got=f"{got!r:.60}", expected=expected)

    def _key(self, key: str) -> str:
        return f"{self.architecture}{key}" if key.startswith(".") else key

    def _get(self, key: str, default: Any) -> Any:
        value = self._values.get(self._key(key), default)
        if value is None:
            refuse(self.path, f"the file has no metadata '{self._key(key)}'")
        return value
