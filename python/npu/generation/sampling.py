"""The rules by which a token is chosen from scores, with a reference in NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npu.generation.checks import number, whole_number

__all__ = ["Rules", "Sampling", "UniformNumbers", "probabilities"]

Scores = npt.NDArray[np.float32]
TINY = float(np.finfo(np.float32).tiny)  # the device computes in float32


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 chooses the most likely one."""

    temperature: float = 0.0
    top_k: int = 0  # 0 means all
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        checked = {
            "temperature": number(
                "temperature", self.temperature, "a float32 of at least 0 (0 is greedy)", 0, math.inf
            ),
            "top_k": whole_number("top_k", self.top_k, "a count, or 0 for all tokens", 0),
            "top_p": number("top_p", self.top_p, "a number greater than 0 and at most 1", TINY, 1),
            "repetition_penalty": number(
                "repetition_penalty",
                self.repetition_penalty,
                "a normal float32 greater than 0",
                TINY,
                math.inf,
            ),
            "seed": whole_number("seed", self.seed, "0 or more", 0),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def greedy(self) -> bool:
        """Whether the temperature is 0 in float32."""
        return self.temperature < TINY

    @property
    def likeliest(self) -> bool:
        """Whether no sampler is needed, because steps return the most likely token themselves."""
        return self.greedy and self.repetition_penalty == 1

    def rules(self, vocabulary: int) -> Rules:
        few = 0 < self.top_k < vocabulary
        drawn = not self.greedy
        return Rules(
            self.greedy, self.top_k if few and drawn else 0, self.top_p < 1 and drawn, self.repetition_penalty != 1
        )


@dataclass(frozen=True)
class Rules:
    """The options that are fixed in a sampler's program. The values of the other options are its inputs."""

    greedy: bool
    top_k: int
    top_p: bool
    penalty: bool

    @property
    def name(self) -> str:
        parts = ["likeliest" if self.greedy else "draw"]
        parts += [f"top_{self.top_k}"] if self.top_k else []
        parts += [name for name in ("top_p", "penalty") if getattr(self, name)]
        return "_".join(parts)


def probabilities(scores: npt.ArrayLike, history: Sequence[int], sampling: Sampling) -> Scores:
    """The probability of each token. The rules and their order are those of transformers' ``generate``: repetition
    penalty, temperature, top-k, top-p."""
    tokens, chosen = _candidates(_penalised(scores, history, sampling), sampling)
    full = np.zeros(np.shape(scores), np.float32)
    full[tokens] = chosen
    return full


def _penalised(scores: npt.ArrayLike, history: Sequence[int], sampling: Sampling) -> Scores:
    penalised: Scores = np.array(scores, np.float32)
    if sampling.repetition_penalty != 1 and len(history):
        seen = np.unique(np.asarray(history))
        scored, penalty = penalised[seen], np.float32(sampling.repetition_penalty)
        penalised[seen] = np.where(scored < 0, scored * penalty, scored / penalty)
    return penalised


def _candidates(scores: Scores, sampling: Sampling) -> tuple[npt.NDArray[np.int64], Scores]:
    """The tokens that may be chosen, in ascending order, and their probabilities."""
    if sampling.greedy:
        return np.array([scores.argmax()]), np.ones(1, np.float32)
    scores = (scores - scores.max()) / np.float32(sampling.temperature)
    tokens = np.arange(scores.size)
    if 0 < sampling.top_k < scores.size:
        least = np.partition(scores, -sampling.top_k)[-sampling.top_k]
        tokens = tokens[scores >= least]
    chosen = np.exp(scores[tokens])
    if sampling.top_p < 1:
        order = np.argsort(-scores[tokens], kind="stable")  # of equal scores, the first tokens are kept
        before = np.cumsum(chosen[order], dtype=np.float64) - chosen[order]
        keep = np.sort(order[before < np.float32(sampling.top_p) * chosen.sum(dtype=np.float64)])
        tokens, chosen = tokens[keep], chosen[keep]
    return tokens, chosen / chosen.sum()


class UniformNumbers:
    """Random numbers in [0, 1), one for each row. A row's numbers depend only on the seed and the row."""

    def __init__(self, seed: int, rows: int) -> None:
        self._random = [np.random.default_rng([seed, row]) for row in range(rows)]

    def draw(self) -> Scores:
        return np.array([random.random(dtype=np.float32) for random in self._random], np.float32)
