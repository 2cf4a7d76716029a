"""Splits a prompt into runs of programs, each of which takes a fixed number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

__all__ = ["Chunk", "chunks"]

Chunk = tuple[int, int]
"""The number of rows of a program, and how many of them are tokens. The rest are padding."""

_FIXED_COST = 24
"""The fixed cost of a run (reading all weights), as a number of rows."""


def chunks(count: int, position: int, buckets: Sequence[int], capacity: int) -> list[Chunk]:
    """The cheapest programs for ``count`` tokens from ``position`` on.

    Padding follows the tokens, where later tokens overwrite it, and stays within the capacity. ``buckets`` contains 1.
    """
    largest = max(buckets)
    whole = max(0, count - 1) // largest
    whole = min(whole, (capacity - position) // largest)
    rest = _cheapest(count - whole * largest, capacity - position - whole * largest, tuple(sorted(buckets)))
    return [(largest, largest)] * whole + list(rest)


@lru_cache(maxsize=4096)
def _cheapest(count: int, room: int, buckets: tuple[int, ...]) -> tuple[Chunk, ...]:
    best: list[tuple[int, tuple[Chunk, ...]]] = [(0, ())]  # best[n]: the cost and the chunks of the last n tokens
    for left in range(1, count + 1):
        free = room - (count - left)
        options = []
        for bucket in buckets:
            if bucket > free:
                break
            taken = min(bucket, left)
            cost, after = best[left - taken]
            options.append((cost + bucket + _FIXED_COST, ((bucket, taken), *after)))
        best.append(min(options, key=lambda option: option[0]))
    return best[count][1]
