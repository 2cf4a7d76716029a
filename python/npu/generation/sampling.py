"""From scores to the next token, on the host: one row at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from npu_runtime import InvalidValueError
from npu_runtime.errors import format_error

__all__ = ["Sampler", "Sampling", "probabilities"]

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 takes the likeliest."""

    temperature: float = 0.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, "0 (greedy) or more", lambda x: x >= 0)
        _check("top_k", self.top_k, "a count, or 0 for all tokens", lambda x: x >= 0, whole=True)
        _check("top_p", self.top_p, "more than 0 and at most 1", lambda x: 0 < x <= 1)
        _check("repetition_penalty", self.repetition_penalty, "more than 0", lambda x: x > 0)
        _check("seed", self.seed, "0 or more", lambda x: x >= 0, whole=True)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def needs_scores(self) -> bool:
        """Whether the device's own choice, the likeliest token, is not what is wanted."""
        return not self.greedy or self.repetition_penalty != 1


def _check(name: str, value: Any, rule: str, holds: Any, whole: bool = False) -> None:
    kinds: Any = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or not holds(value):
        raise InvalidValueError(format_error("generate", f"{name} is out of range", got=repr(value), expected=rule))


def probabilities(scores: npt.ArrayLike, history: Sequence[int], sampling: Sampling) -> Scores:
    """Of each token to be the next one. The rules and their order are those of transformers' ``generate``:
    repetition penalty, temperature, top-k, top-p."""
    tokens, chosen = _candidates(_penalised(scores, history, sampling), sampling)
    full = np.zeros(np.shape(scores), np.float32)
    full[tokens] = chosen
    return full


def _penalised(scores: npt.ArrayLike, history: Sequence[int], sampling: Sampling) -> Scores:
    found: Scores = np.array(scores, np.float32)
    if sampling.repetition_penalty != 1 and len(history):
        seen = np.unique(np.asarray(history))
        old, penalty = found[seen], np.float32(sampling.repetition_penalty)
        found[seen] = np.where(old < 0, old * penalty, old / penalty)
    return found


def _candidates(scores: Scores, sampling: Sampling) -> tuple[npt.NDArray[np.int64], Scores]:
    """The tokens that may follow, in the order of their numbers, and their probabilities."""
    if sampling.greedy:
        return np.array([scores.argmax()]), np.ones(1, np.float32)
    scores = scores / np.float32(sampling.temperature)
    tokens = np.arange(scores.size)
    if 0 < sampling.top_k < scores.size:
        least = np.partition(scores, -sampling.top_k)[-sampling.top_k]
        tokens = tokens[scores >= least]
    chosen = _softmax(scores[tokens])
    if sampling.top_p < 1:
        order = np.argsort(chosen, kind="stable")  # the least likely first
        unlikely = np.cumsum(chosen[order]) <= np.float32(1 - sampling.top_p)
        unlikely[-1] = False
        keep = np.sort(order[~unlikely])
        tokens, chosen = tokens[keep], chosen[keep] / chosen[keep].sum()
    return tokens, chosen


def _softmax(scores: Scores) -> Scores:
    exponentials = np.exp(scores - scores.max())
    result: Scores = exponentials / exponentials.sum()
    return result


def refuse_not_finite(scores: npt.ArrayLike) -> None:
    if not np.isfinite(scores).all():
        raise InvalidValueError(format_error("generate", "the model's scores are not finite", got="NaN or infinity"))


class Sampler:
    """Draws tokens; rows of a batch and runs with the same seed draw the same whatever the others do."""

    def __init__(self, sampling: Sampling, rows: int) -> None:
        self.sampling = sampling
        self._random = [np.random.default_rng([sampling.seed, row]) for row in range(rows)]

    def choose(self, row: int, scores: npt.ArrayLike, history: Sequence[int]) -> int:
        tokens, chosen = _candidates(_penalised(scores, history, self.sampling), self.sampling)
        refuse_not_finite(chosen)
        if len(tokens) == 1:
            return int(tokens[0])
        sums = np.cumsum(chosen, dtype=np.float64)
        place = np.searchsorted(sums, self._random[row].random() * sums[-1], side="right")
        return int(tokens[min(int(place), len(tokens) - 1)])
