"""An ordered list of ops in which changes take constant time at any position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

__all__ = ["Link", "OpList"]


class Link(Generic[T]):
    """A node of the list. ``key`` grows along the list; ``op`` is None once it has been removed."""

    __slots__ = ("key", "next", "op", "ops", "prev")

    def __init__(self, op: T | None, ops: OpList[T], key: float) -> None:
        self.op, self.ops, self.key = op, ops, key
        self.prev = self.next = self


class OpList(Generic[T]):
    """The list may change during iteration: removed ops are skipped, and an op that replaces one further on is visited.
    ``rank`` orders lists relative to each other. Only the graph changes a list."""

    __slots__ = ("_end", "_size", "rank")

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self._end: Link[T] = Link(None, self, 0.0)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        link = self._end.next
        while link is not self._end:
            if link.op is not None:
                yield link.op
            link = link.next

    def __reversed__(self) -> Iterator[T]:
        link = self._end.prev
        while link is not self._end:
            if link.op is not None:
                yield link.op
            link = link.prev

    def append(self, op: T) -> Link[T]:
        return self._between(op, self._end.prev, self._end, self._end.prev.key + 1.0)

    def insert(self, op: T, before: Link[T]) -> Link[T]:
        prev = before.prev
        low = before.key - 2.0 if prev is self._end else prev.key
        key = (low + before.key) / 2
        link = self._between(op, prev, before, key)
        if not low < key < before.key:  # floats between the two have run out
            for at, other in enumerate(self._all()):
                other.key = float(at)
        return link

    def remove(self, link: Link[T]) -> None:
        """The link keeps its neighbours, so that an iteration at this op can continue."""
        link.prev.next, link.next.prev = link.next, link.prev
        link.op = None
        self._size -= 1

    def _between(self, op: T, prev: Link[T], after: Link[T], key: float) -> Link[T]:
        link = Link(op, self, key)
        link.prev, link.next = prev, after
        prev.next = after.prev = link
        self._size += 1
        return link

    def _all(self) -> Iterator[Link[T]]:
        link = self._end.next
        while link is not self._end:
            yield link
            link = link.next
