"""Chooses the next token on the device, from the scores in the step's output buffer."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from npu_runtime import Device, Executor, NPUBuffer, Session

from npu.generation.checks import invalid
from npu.generation.sampling import Rules, Sampling, UniformNumbers

__all__ = ["Sampler", "SamplerSource", "refuse_not_finite"]


class SamplerSource(Protocol):
    """Provides the executor of a sampler, which generations with the same rules share."""

    device: Device

    def sampler_executor(self, rules: Rules, batch: int, vocabulary: int, dtype: str) -> Executor: ...


class Sampler:
    """Chooses the tokens of one generation. Rows are independent of each other."""

    def __init__(self, source: SamplerSource, sampling: Sampling, prompts: list[list[int]]) -> None:
        self._source, self._sampling = source, sampling
        self._prompts, self._random = prompts, UniformNumbers(sampling.seed, len(prompts))
        self._numbers = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "penalty": sampling.repetition_penalty,
        }
        self._session: Session | None = None
        self._read: set[str] = set()
        self._inputs: dict[str, Any] = {}

    def choose(self, logits: Any) -> list[int]:
        """One token for each row, from the logits of a step. Only the tokens are copied to the host."""
        assert self._session is not None, "prepare() comes first"
        if "uniform" in self._read:
            self._inputs["uniform"] = self._random.draw()[:, None]
        outputs = self._session.run({"logits": logits, **self._inputs})
        refuse_not_finite(outputs["finite"].to_numpy())
        return [int(token) for token in outputs["token"].to_numpy()]

    def prepare(self, logits: Any) -> None:
        """Set up for logits of this shape and dtype."""
        rows, vocabulary = logits.shape
        executor = self._source.sampler_executor(self._sampling.rules(vocabulary), rows, vocabulary, str(logits.dtype))
        self._session = executor.session()
        self._read = {spec.name for spec in executor.program.inputs}
        self._inputs = {name: np.array([[x]], np.float32) for name, x in self._numbers.items() if name in self._read}
        if "seen" in self._read:
            self._session.set_state("seen", NPUBuffer.from_numpy(self._seen(vocabulary), self._source.device))

    def _seen(self, vocabulary: int) -> npt.NDArray[np.bool_]:
        seen = np.zeros((len(self._prompts), vocabulary), np.bool_)
        for row, prompt in enumerate(self._prompts):
            seen[row, [token for token in prompt if token < vocabulary]] = True
        return seen


def refuse_not_finite(finite: npt.ArrayLike) -> None:
    if not np.all(finite):
        raise invalid("the model's scores are not finite", "NaN or infinity", "finite numbers")
