"""Text generation with compiled steps of a causal language model."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from npu_runtime import Device, Executor, InvalidValueError, NPUError, Session, Weights
from npu_runtime.errors import format_error

from npu.generation.chunks import chunks
from npu.generation.sampling import Sampler, Sampling, refuse_not_finite
from npu.generation.source import Facts, ModelSource, Source, cache_folder
from npu.generation.text import TextPieces

__all__ = ["Generation", "Generator", "Piece", "Prompt"]

Prompt = str | Sequence[int]
Progress = Callable[[str, int, int], None]
"""What is being done, how many parts of it are done, and of how many."""

BUCKETS = (1, 16, 128)
EXPERT_BUCKETS = (1, 8)  # weights of experts are gathered for each token
CAPACITY = 2048


@dataclass(frozen=True)
class Piece:
    """One more token of a row, and the text that is settled with it, if there is a tokenizer."""

    row: int
    token: int
    text: str


@dataclass
class Generation:
    """What followed a prompt. ``finish`` is "stop" (a stop token, which is left out, or a stop string), "length"
    (as many as were asked for) or "capacity" (the caches are full)."""

    tokens: list[int] = field(default_factory=list)
    text: str | None = None
    finish: str = ""
    prompt_tokens: int = 0
    prompt_seconds: float = 0.0
    seconds: float = 0.0


@dataclass
class _Program:
    executor: Executor
    session: Session


class Generator:
    """A causal language model with caches for ``capacity`` tokens on a device.

    Programs for 1, 16 and 128 tokens at once are compiled when they are first needed. They read the same weights and
    write the same caches.
    """

    def __init__(
        self,
        source: Source,
        *,
        tokenizer: Any = None,
        stop_tokens: Iterable[int] | None = None,
        capacity: int | None = None,
        buckets: Sequence[int] | None = None,
        device: Device | str | None = None,
        threads: int = 0,
        progress: Progress | None = None,
        cache: Path | None = None,
        timings: dict[str, float] | None = None,
    ) -> None:
        """Made by ``from_model`` and ``from_pretrained``."""
        facts = source.facts
        self.tokenizer, self.vocabulary = tokenizer, facts.vocabulary
        self.stop_tokens = frozenset(facts.stop_tokens if stop_tokens is None else stop_tokens)
        self.capacity = _capacity(capacity, facts)
        self.buckets = _buckets(buckets, facts, self.capacity)
        self.device = device if isinstance(device, Device) else Device(device)
        self.timings = timings if timings is not None else {}
        self._source, self._threads, self._progress, self._cache = source, threads, progress, cache
        self._weights: Weights | None = None
        self._programs: dict[tuple[int, int], _Program] = {}
        self._lock, self._turn = threading.Lock(), 0
        self._cached: list[int] = []  # the tokens of the one row whose keys and values are in the caches

    @classmethod
    def from_model(cls, model: Any, *, weights: Weights | None = None, **options: Any) -> Generator:
        """Of a model with its weights, or of one on the meta device and ``weights``. ``options``: ``tokenizer``,
        ``stop_tokens`` (the model's own by default), ``capacity``, ``buckets``, ``device``, ``threads``,
        ``progress``."""
        return cls(ModelSource(model, weights), **options)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        *,
        dtype: Any = None,
        cache: str | os.PathLike[str] | bool = False,
        **options: Any,
    ) -> Generator:
        """Of a folder with config.json, safetensors and, for text, a tokenizer. Nothing is downloaded.

        ``dtype`` is another one than the checkpoint's. ``cache`` is a folder that keeps programs from one start to the
        next, or True for the user's own; ``options`` are those of ``from_model``.
        """
        from npu.generation.pretrained import FolderSource

        timings: dict[str, float] = {}
        kept = cache_folder() if cache is True else Path(cache) if cache else None
        source = FolderSource(folder, dtype, kept, timings)
        if "tokenizer" not in options:
            options["tokenizer"] = source.tokenizer()
        return cls(source, cache=kept, timings=timings, **options)

    @property
    def cache_bytes(self) -> int:
        """Of one row of a batch."""
        program = self._program(1, 1).executor.program
        return sum(int(np.prod(spec.shape)) * _width(spec.dtype) for spec in program.inputs if spec.state)

    @property
    def weights(self) -> Weights:
        """What all programs read."""
        if self._weights is None:
            self.prepare()
        assert self._weights is not None
        return self._weights

    def prepare(self, batch: int = 1, buckets: Iterable[int] | None = None) -> None:
        """Compile and load now instead of when a program is first needed."""
        for rows in self.buckets if buckets is None else buckets:
            self._program(batch, rows)

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        max_new_tokens: int = 128,
        *,
        on_token: Callable[[Piece], None] | None = None,
        **options: Any,
    ) -> Any:
        """What follows a prompt: a ``Generation``; of a list of prompts, a list of them.

        A prompt is a text or its tokens. Prompts of a list may differ in length and are continued together. ``options``
        are those of ``stream``.
        """
        run = self._start(prompt, max_new_tokens, options)
        for piece in run.pieces():
            if on_token is not None:
                on_token(piece)
        return run.results if run.is_batch else run.results[0]

    def stream(self, prompt: Prompt | Sequence[Prompt], max_new_tokens: int = 128, **options: Any) -> Iterator[Piece]:
        """The same, token by token. One generation at a time: a new one ends those before it.

        ``temperature`` (0: the likeliest token), ``top_k``, ``top_p``, ``repetition_penalty`` and ``seed`` say how
        tokens are chosen; ``stop_tokens`` (by default the model's own) and ``stop_strings`` where it ends.
        With ``reuse=True``, the part of the prompt that the caches hold from the last generation is not computed
        again.
        """
        return self._start(prompt, max_new_tokens, options).pieces()

    def logits(self, tokens: Sequence[int]) -> npt.NDArray[Any]:
        """Of the token after these, in the model's dtype."""
        run = self._start(tokens, 1, {})
        with self._lock:
            outputs = run.read_prompt()
        found: npt.NDArray[Any] = outputs["logits"].to_numpy(copy=True)[0]
        return found

    def _start(self, prompt: Any, max_new_tokens: int, options: dict[str, Any]) -> _Run:
        return _Run(self, prompt, max_new_tokens, **options)

    def encode(self, prompt: Prompt) -> list[int]:
        """A prompt's tokens, checked."""
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise _wrong("there is no tokenizer for a text", repr(prompt[:40]), "tokens", "tokenizer=...")
            prompt = self.tokenizer(prompt)["input_ids"]
        try:
            tokens = np.asarray(prompt)
            integers = tokens.ndim == 1 and (tokens.size == 0 or tokens.dtype.kind in "iu")
        except (ValueError, TypeError):
            integers = False
        if not integers:
            raise _wrong("a prompt is neither a text nor its tokens", f"{prompt!r:.60}", "a str or integers")
        if tokens.size == 0:
            raise _wrong("the prompt is empty", "no tokens", "at least one")
        outside = tokens[(tokens < 0) | (tokens >= self.vocabulary)]
        if outside.size:
            raise _wrong("a token is not in the vocabulary", outside[0], f"0 to {self.vocabulary - 1}")
        if tokens.size > self.capacity:
            raise _wrong(
                "the prompt is longer than the capacity", tokens.size, f"at most {self.capacity}", "a larger capacity="
            )
        return [int(token) for token in tokens]

    def _program(self, batch: int, rows: int) -> _Program:
        key = batch, rows
        if key not in self._programs:
            made = self._make(batch, rows)
            session = made.session()
            others = [p for (b, _), p in self._programs.items() if b == batch]
            if others:
                session.share_state(others[0].session)
            self._programs[key] = _Program(made, session)
        return self._programs[key]

    def _make(self, batch: int, rows: int) -> Executor:
        what = f"{rows} token{'s' if rows > 1 else ''}" + (f" of {batch}" if batch > 1 else "")
        program = self._compiled(batch, rows, what)
        with self._stage("load", what) as tell:
            executor = Executor(program, self.device, threads=self._threads)
            copied = [s.name for s in executor.program.inputs if s.name.startswith("caches_") and not s.state]
            if copied:
                raise _wrong("a cache would be copied by every step", copied[0], "one that is updated in place")
            if self._weights is None:
                self._weights = self._source.weights_for(program, self.device)
            self._weights.check(program)
            executor.prepare(self._weights, tell)
        return executor

    def _compiled(self, batch: int, rows: int, what: str) -> Any:
        """From the cache, if it is there and whole; else made, and kept there."""
        import npu_compiler

        key, kept = self._source.key(), None
        if self._cache is not None and key is not None:
            kept = self._cache / f"{key}-{batch}x{rows}-{self.capacity}.npubin"
            if kept.is_file():
                with contextlib.suppress(npu_compiler.ProgramError, NPUError, OSError):
                    return npu_compiler.CompiledProgram.load(kept)
        with self._stage("extract", what):
            ir = self._source.extract(batch, rows, self.capacity)
        with self._stage("compile", what):
            program = npu_compiler.compile(ir)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            program.save(kept)
        return program

    def _stage(self, stage: str, what: str) -> _Stage:
        return _Stage(self, stage, f"{stage} {what}")

    def _begin(self, batch: int, keep: bool) -> int:
        """A new turn, with empty caches unless they are to be kept."""
        self._turn += 1
        if not keep:
            sessions = [p.session for (b, _), p in self._programs.items() if b == batch]
            for session in sessions:
                session.reset()
            for session in sessions[1:]:
                session.share_state(sessions[0])
        return self._turn


class _Stage:
    """Adds up the time of a stage and reports it."""

    def __init__(self, owner: Generator, stage: str, text: str) -> None:
        self._owner, self._stage, self._text = owner, stage, text

    def __enter__(self) -> Callable[[int, int], None]:
        self._began = time.perf_counter()
        self._tell(0, 1)
        return self._tell

    def __exit__(self, *_: Any) -> None:
        timings = self._owner.timings
        timings[self._stage] = timings.get(self._stage, 0.0) + time.perf_counter() - self._began
        self._tell(1, 1)

    def _tell(self, done: int, total: int) -> None:
        if self._owner._progress is not None:
            self._owner._progress(self._text, done, total)


class _Run:
    """One generation: a row for each prompt, all at the same place in the caches. Shorter prompts begin later."""

    def __init__(
        self,
        generator: Generator,
        prompt: Any,
        max_new_tokens: int,
        *,
        stop_tokens: Iterable[int] | None = None,
        stop_strings: Sequence[str] = (),
        reuse: bool = False,
        **sampling: Any,
    ) -> None:
        self.generator, self.limit = generator, _count(max_new_tokens)
        unknown = sorted(set(sampling) - set(Sampling.__dataclass_fields__))
        if unknown:
            raise TypeError(f"[generate] unknown options: {', '.join(unknown)}")
        self.is_batch = _is_batch(prompt)
        self.prompts = [generator.encode(p) for p in (prompt if self.is_batch else [prompt])]
        self.stops = generator.stop_tokens if stop_tokens is None else frozenset(stop_tokens)
        self.sampler = Sampler(Sampling(**sampling), len(self.prompts))
        self.length = max(map(len, self.prompts))
        self.starts = np.array([self.length - len(p) for p in self.prompts])
        self.results = [Generation(prompt_tokens=len(p)) for p in self.prompts]
        strings = (stop_strings,) if isinstance(stop_strings, str) else tuple(stop_strings)
        self.texts = [self._text_of(strings) for _ in self.prompts]
        self.reuse = reuse and len(self.prompts) == 1
        self.turn = 0

    def _text_of(self, stop_strings: tuple[str, ...]) -> TextPieces | None:
        if self.generator.tokenizer is None:
            if stop_strings:
                raise _wrong("stop strings need a tokenizer", "none", "stop_tokens", "tokenizer=...")
            return None
        if not all(isinstance(stop, str) and stop for stop in stop_strings):
            raise _wrong("a stop string is empty or no text", repr(stop_strings), "texts")
        return TextPieces(self.generator.tokenizer, stop_strings)

    def pieces(self) -> Iterator[Piece]:
        began = time.perf_counter()
        with self.generator._lock:
            outputs = self.read_prompt()
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
                    raise _wrong("this generation was ended by a later one", "a new prompt", "one at a time")
                outputs = self._step(1, np.array(tokens)[:, None], position, 1)
                self._note(tokens[:1])
            position += 1

    def read_prompt(self) -> Any:
        """Everything but the last token only fills the caches."""
        generator, batch = self.generator, len(self.prompts)
        old, first = generator._cached, 0
        if self.reuse:
            same = next((i for i, (a, b) in enumerate(zip(old, self.prompts[0], strict=False)) if a != b), None)
            first = min(len(old) if same is None else same, self.length - 1)
        self.turn = generator._begin(batch, keep=first > 0)
        generator._cached = old[:first]
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
        given = np.zeros((batch, rows), np.int64)
        given[:, :valid] = ids
        inputs: dict[str, Any] = {"input_ids": given, "position": np.arange(position, position + rows)}
        if rows > 1:
            inputs["last"] = np.array([valid - 1])
        if batch > 1:
            inputs["start"] = self.starts
        return program.session.run(inputs, self.generator._weights)

    def _choose(self, outputs: Any) -> list[int]:
        if not self.sampler.sampling.needs_scores:
            tokens = [int(token) for token in outputs["next_token"].to_numpy()]
            logits = outputs["logits"].to_numpy()  # NaN wins
            refuse_not_finite([float(logits[row, token]) for row, token in enumerate(tokens)])
            return tokens
        scores = outputs["logits"].to_numpy().astype(np.float32)
        return [
            0 if result.finish else self.sampler.choose(row, scores[row], [*prompt, *result.tokens])
            for row, (prompt, result) in enumerate(zip(self.prompts, self.results, strict=True))
        ]

    def _take(self, row: int, token: int, position: int) -> Piece | None:
        """The token is the row's next one, unless it ends it."""
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


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong("max_new_tokens is out of range", repr(value), "at least 1")
    return value


def _capacity(capacity: int | None, facts: Facts) -> int:
    most = facts.positions or CAPACITY
    if capacity is None:
        return min(CAPACITY, most)
    most = facts.positions or capacity
    if isinstance(capacity, bool) or not isinstance(capacity, int) or not 1 <= capacity <= most:
        raise _wrong("the capacity is out of range", repr(capacity), f"1 to {most}, the model's positions")
    return capacity


def _buckets(buckets: Sequence[int] | None, facts: Facts, capacity: int) -> tuple[int, ...]:
    if buckets is None:
        buckets = EXPERT_BUCKETS if facts.experts else BUCKETS
    for rows in buckets:
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise _wrong("a bucket is out of range", repr(rows), "at least 1 token")
    return tuple(sorted({1, *(rows for rows in buckets if rows <= capacity)}))


def _width(dtype: str) -> int:
    return int(dtype.lstrip("abcdefghijklmnopqrstuvwxyz") or 8) // 8


def _wrong(what: str, got: Any, expected: str, action: str | None = None) -> InvalidValueError:
    return InvalidValueError(format_error("generate", what, got=got, expected=expected, action=action))
