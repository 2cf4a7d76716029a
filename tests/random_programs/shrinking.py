"""Many random programs, and failing ones made small."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from npu_runtime import Device

from .making import a_program
from .running import check, text_of
from .values import Choose

_MOST_TRIALS = 1500


class Choices:
    """Those of a list, counted from the lowest that may be chosen; beyond its end the lowest, or one at random."""

    def __init__(self, given: list[int], random: np.random.Generator | None = None) -> None:
        self.given, self.random, self.made = given, random, list[int]()

    def __call__(self, low: int, high: int) -> int:
        at = len(self.made)
        if at < len(self.given):
            chosen = min(self.given[at], high - low)
        else:
            chosen = int(self.random.integers(0, high - low, endpoint=True)) if self.random else 0
        self.made.append(chosen)
        return low + chosen


def shrink(choices: list[int], fails: Callable[[list[int]], bool]) -> list[int]:
    """As few and as low choices as still fail: blocks are left out, then made lowest, then lower."""
    trials = 0

    def better(candidate: list[int]) -> bool:
        nonlocal trials
        trials += 1
        return trials <= _MOST_TRIALS and candidate != choices and fails(candidate)

    before: list[int] = []
    while before != choices and trials < _MOST_TRIALS:
        before = choices
        for size in (64, 16, 4, 2, 1):
            at = len(choices)
            while at > 0:
                at = max(at - size, 0)
                rest, end = choices[:at], choices[at + size :]
                for block in ([], [0] * min(size, len(choices) - at)):
                    if better(rest + block + end):
                        choices = rest + block + end
                        break
        at = 0
        while at < len(choices):
            lower = [[*choices[:at], n, *choices[at + 1 :]] for n in (choices[at] // 2, choices[at] - 1) if n >= 0]
            found = next((candidate for candidate in lower if better(candidate)), None)
            choices, at = (choices, at + 1) if found is None else (found, at)
    return choices


def run_many(device: Device, count: int, seed: int, threads: int = 2) -> None:
    """The same programs for the same seed."""

    def failure(choices: Choices) -> str:
        made = a_program(Choose(choices))
        try:
            check(made, device, threads)
        except Exception as error:
            return f"{type(error).__name__}: {error}\n{text_of(made)}"
        return ""

    for number in range(count):
        choices = Choices([], np.random.default_rng([seed, number]))
        found = failure(choices)
        if found:
            small = shrink(choices.made, lambda given: bool(failure(Choices(given))))
            raise AssertionError(f"program {number} of seed {seed}, made small: {failure(Choices(small)) or found}")
