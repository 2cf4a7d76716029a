"""What is made once for each key and kept, as long as it is among the last ones used."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Kept"]

_Value = TypeVar("_Value")


class _Entry(Generic[_Value]):
    def __init__(self) -> None:
        self.making = threading.Lock()
        self.values: list[_Value] = []


class Kept(Generic[_Value]):
    """At most ``most`` values; the one that was not used for longest goes first. For any number of threads: those that
    ask for the same key make its value once, others do not wait for it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry[_Value]] = OrderedDict()

    def get(self, key: Hashable) -> _Value | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or not entry.values:
                return None
            self._entries.move_to_end(key)
            return entry.values[0]

    def get_or_make(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
        with entry.making:
            if not entry.values:
                try:
                    entry.values.append(make())
                except BaseException:
                    with self._lock:
                        if self._entries.get(key) is entry:
                            del self._entries[key]
                    raise
                self._keep(key, entry)
        return entry.values[0]

    def _keep(self, key: Hashable, entry: _Entry[_Value]) -> None:
        with self._lock:
            self._entries.setdefault(key, entry)
            whole = [key for key, entry in self._entries.items() if entry.values]
            for key in whole[: max(len(whole) - self.most, 0)]:
                del self._entries[key]

    def values(self) -> list[_Value]:
        """Those that are kept, the one used last at the end."""
        with self._lock:
            return [entry.values[0] for entry in self._entries.values() if entry.values]
