"""One generation: from a prompt to the tokens that follow it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from npu_base.errors import InvalidTypeError
from npu_runtime import Weights

from npu.generation.checks import invalid, listed, short_repr, whole_number
from npu.generation.chunks import chunks
from npu.generation.sampler import Sampler, SamplerSource, refuse_not_finite
from npu.generation.sampling import Sampling
from npu.generation.text import TextPieces

__all__ = ["Generation", "Piece", "Run", "stop_set"]


@dataclass(frozen=True)
class Piece:
    """The next token of a row and, if there is a tokenizer, the text that it completes."""

    row: int
    token: int
    text: str


@dataclass
class Generation:
    """The continuation of a prompt. ``finish`` is "stop" (a stop token, which is not included, or a stop string),
    "length" (the requested number of tokens) or "capacity" (the caches are full)."""

    tokens: list[int] = field(default_factory=list)
    text: str | None = None
    finish: str = ""
    prompt_tokens: int = 0
    reused_tokens: int = 0  # those of the prompt that were in the caches already
    prompt_seconds: float = 0.0
    seconds: float = 0.0


class Engine(SamplerSource, Protocol):
    """The parts of a Generator that a run uses."""

    tokenizer: Any
    stop_tokens: frozenset[int]
    vocabulary: int
    capacity: int
    buckets: tuple[int, ...]
    _weights: Weights | None
    _cached: list[int]
    _turn: int

    @property
    def _lock(self) -> AbstractContextManager[Any]: ...

    def encode(self, prompt: Any) -> list[int]: ...

    def _begin(self, batch: int, keep: bool) -> int: ...

    def _program(self, batch: int, rows: int) -> Any: ...


class Run:
    """One generation, with a row for each prompt. All rows end at one position, so shorter prompts start later."""

    def __init__(
        self,
        generator: Engine,
        prompt: Any,
        max_new_tokens: int,
        *,
        stop_tokens: Iterable[int] | None = None,
        stop_strings: Sequence[str] = (),
        reuse: bool = False,
        **sampling: Any,
    ) -> None:
        self.generator = generator
        self.limit = whole_number("max_new_tokens", max_new_tokens, "at least 1", 1)
        unknown = sorted(set(sampling) - set(Sampling.__dataclass_fields__))
        if unknown:
            raise InvalidTypeError(f"[generate] unknown options; got {', '.join(unknown)}")
        self.is_batch = _is_batch(prompt)
        self.prompts = [generator.encode(p) for p in (prompt if self.is_batch else [prompt])]
        self.stops = generator.stop_tokens if stop_tokens is None else stop_set(stop_tokens, generator.vocabulary)
        wanted = Sampling(**sampling)
        self.sampler = None if wanted.likeliest else Sampler(generator, wanted, self.prompts)
        self.length = max(map(len, self.prompts))
        self.starts = np.array([self.length - len(p) for p in self.prompts])
        self.results = [Generation(prompt_tokens=len(p)) for p in self.prompts]
        strings = (
            [stop_strings] if isinstance(stop_strings, str) else listed("stop_strings", stop_strings, "a list of str")
        )
        self.texts = [self._text_of(strings) for _ in self.prompts]
        if not isinstance(reuse, bool):
            raise invalid("reuse must be a bool", short_repr(reuse), "True or False")
        self.reuse = reuse and len(self.prompts) == 1
        self.turn = 0

    def _text_of(self, stop_strings: list[Any]) -> TextPieces | None:
        if self.generator.tokenizer is None:
            if stop_strings:
                raise invalid(
                    "stop_strings need a tokenizer", "no tokenizer", None, "passing tokenizer=... or stop_tokens=..."
                )
            return None
        if not all(isinstance(stop, str) and stop for stop in stop_strings):
            raise invalid("stop_strings must be non-empty texts", short_repr(stop_strings), "a list of str")
        return TextPieces(self.generator.tokenizer, stop_strings)

    def pieces(self) -> Iterator[Piece]:
        began = time.perf_counter()
        with self.generator._lock:
            outputs = self.read_prompt()
            if self.sampler is not None:
                self.sampler.prepare(outputs["logits"])
        position = self.length
        for result in self.results:
            result.prompt_seconds = time.perf_counter() - began
        while True:
            tokens = self._choose(outputs)
            for row, result in enumerate(self.results):
                if result.finish:
                    continue
                result.seconds = time.perf_counter() - began
                piece = self._take(row, tokens[row], position)
                if piece is not None:
                    yield piece
            if all(result.finish for result in self.results):
                return
            with self.generator._lock:
                if self.generator._turn != self.turn:
                    raise invalid("a later generation ended this one", "a new prompt", "one generation at a time")
                outputs = self._step(1, np.array(tokens)[:, None], position, 1)
                self._note(tokens[:1])
            position += 1

    def read_prompt(self) -> Any:
        """Fill the caches with the prompt; returns the outputs of its last token."""
        generator, batch = self.generator, len(self.prompts)
        old, first = generator._cached, 0
        if self.reuse:
            same = next((i for i, (a, b) in enumerate(zip(old, self.prompts[0], strict=False)) if a != b), None)
            first = min(len(old) if same is None else same, self.length - 1)
        generator._cached = old[:first]  # first: whoever is interrupted in between must not trust the other tokens
        self.turn = generator._begin(batch, keep=first > 0)
        self.results[0].reused_tokens = first
        ids = np.zeros((batch, self.length), np.int64)
        for row, prompt in enumerate(self.prompts):
            ids[row, self.length - len(prompt) :] = prompt
        outputs: Any = None
        position = first
        for rows, valid in chunks(self.length - first, first, generator.buckets, generator.capacity):
            outputs = self._step(rows, ids[:, position : position + valid], position, valid)
            self._note([int(token) for token in ids[0, position : position + valid]])
            position += valid
        return outputs

    def _note(self, tokens: list[int]) -> None:
        if len(self.prompts) == 1:
            self.generator._cached.extend(tokens)

    def _step(self, rows: int, ids: npt.NDArray[np.int64], position: int, valid: int) -> Any:
        batch = len(self.prompts)
        program = self.generator._program(batch, rows)
        padded = np.zeros((batch, rows), np.int64)
        padded[:, :valid] = ids
        inputs: dict[str, Any] = {"input_ids": padded, "position": np.arange(position, position + rows)}
        if rows > 1:
            inputs["last"] = np.array([valid - 1])
        if batch > 1:
            inputs["start"] = self.starts
        return program.session.run(inputs, self.generator._weights)

    def _choose(self, outputs: Any) -> list[int]:
        if self.sampler is not None:
            return self.sampler.choose(outputs["logits"])
        tokens = [int(token) for token in outputs["next_token"].to_numpy()]
        logits = outputs["logits"].to_numpy()  # a view of device memory, not a copy; argmax picks NaN if there is one
        refuse_not_finite(np.isfinite([float(logits[row, token]) for row, token in enumerate(tokens)]))
        return tokens

    def _take(self, row: int, token: int, position: int) -> Piece | None:
        """Add a token to the row, or finish the row if it is a stop token."""
        result, text = self.results[row], self.texts[row]
        if token in self.stops:
            result.finish = "stop"
            last = text.end() if text else ""
            result.text = text.text if text else None
            return Piece(row, token, last) if last else None
        result.tokens.append(token)
        piece = text.add(token) if text else ""
        if text is not None and text.stopped:
            result.finish = "stop"
        elif len(result.tokens) >= self.limit:
            result.finish = "length"
        elif position >= self.generator.capacity:
            result.finish = "capacity"
        if text is not None:
            if result.finish:
                piece += text.end()
                if text.stopped:
                    result.finish = "stop"
            result.text = text.text
        return Piece(row, token, piece)


def _is_batch(prompt: Any) -> bool:
    if isinstance(prompt, str | Mapping) or not isinstance(prompt, Sequence):
        return bool(getattr(prompt, "ndim", 1) == 2)
    return len(prompt) > 0 and all(isinstance(p, str) or hasattr(p, "__len__") for p in prompt)


def stop_set(stop_tokens: Any, vocabulary: int) -> frozenset[int]:
    rule = f"integers from 0 to {vocabulary - 1}"
    tokens = listed("stop_tokens", stop_tokens, rule)
    return frozenset(whole_number("a stop token", token, rule, 0, vocabulary - 1) for token in tokens)
