"""Text generation with compiled steps of a causal language model."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from npu_base.argument_types import AnyDType
from npu_base.quantization import Scheme
from npu_runtime import Device, Executor, NPUError, Session, Weights
from npu_runtime.device import AnyDevice

from npu.generation.cache import Cache, users_cache
from npu.generation.checks import invalid, listed, short_repr, whole_number
from npu.generation.run import Generation, Piece, Run, stop_set
from npu.generation.sampling import Rules
from npu.generation.source import Facts, ModelSource, Source

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Generation", "Generator", "Piece", "Prompt"]

Prompt = str | Sequence[int]
Progress = Callable[[str, int, int], None]
"""Called with a description, the number of steps done, and the total."""


class Tokenizer(Protocol):
    """What is used of a tokenizer of transformers."""

    def __call__(self, text: str, /, **options: Any) -> Any: ...
    def decode(self, tokens: Any, /, **options: Any) -> Any: ...


_Schemes = Callable[[Any], dict[str, Scheme]]

BUCKETS = (1, 16, 128)
EXPERT_BUCKETS = (1, 8)  # each token gathers the weights of its experts
CAPACITY = 2048


@dataclass
class _Program:
    executor: Executor
    session: Session


class Generator:
    """A causal language model with caches for ``capacity`` tokens on a device.

    Programs for 1, 16 and 128 tokens are compiled when they are first needed. They share weights and caches.
    """

    def __init__(
        self,
        source: Source,
        *,
        tokenizer: Tokenizer | None = None,
        stop_tokens: Iterable[int] | None = None,
        capacity: int | None = None,
        buckets: Sequence[int] | None = None,
        cache_dtype: str | None = None,
        device: AnyDevice | None = None,
        threads: int = 0,
        progress: Progress | None = None,
        cache: Cache | None = None,
        timings: dict[str, float] | None = None,
    ) -> None:
        """Use ``from_model`` or ``from_pretrained`` instead."""
        facts = getattr(source, "facts", None)
        if facts is None:
            expected = "Generator.from_pretrained(folder) or Generator.from_model(model)"
            raise invalid("a Generator is not made by its class", short_repr(source), expected)
        self.tokenizer, self.vocabulary = _tokenizer(tokenizer), facts.vocabulary
        self.stop_tokens = (
            frozenset(facts.stop_tokens) if stop_tokens is None else stop_set(stop_tokens, self.vocabulary)
        )
        self.capacity, self.positions = _capacity(capacity, facts), facts.positions or None
        self.buckets = _buckets(buckets, facts, self.capacity)
        self.cache_dtype = _cache_dtype(cache_dtype)
        self.device = _device(device)
        self.timings = timings if timings is not None else {}
        if progress is not None and not callable(progress):
            raise invalid(
                "progress must be callable", short_repr(progress), "a function that takes a text and two counts"
            )
        threads = whole_number("threads", threads, "a count, or 0 for one per core", 0)
        self._source, self._threads, self._progress, self._cache = source, threads, progress, cache
        self._weights: Weights | None = None
        self._programs: dict[tuple[int, int], _Program] = {}
        self._samplers: dict[str, Executor] = {}
        self._lock, self._turn = threading.Lock(), 0
        self._cached: list[int] = []  # the tokens whose keys and values are in the caches, if the batch is 1

    @classmethod
    def from_model(cls, model: nn.Module, *, weights: Weights | None = None, **options: Any) -> Generator:
        """A generator for a model with its weights, or for one on the meta device with ``weights``.

        ``options`` are ``tokenizer``, ``stop_tokens`` (by default the model's own), ``capacity``, ``buckets``,
        ``cache_dtype`` ("int8": half the bytes, rounded; by default the model's own), ``device``, ``threads`` and
        ``progress``.
        """
        return cls(ModelSource(model, weights), **options)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        *,
        dtype: AnyDType | None = None,
        cache: str | os.PathLike[str] | bool = False,
        **options: Any,
    ) -> Generator:
        """A generator for a folder with config.json, safetensors and, for text, a tokenizer; or for a .gguf file. The
        weights may be quantised. Nothing is downloaded.

        ``dtype`` replaces that of the checkpoint. ``cache`` is a folder for compiled programs, or True for the default
        one. ``options`` are those of ``from_model``.
        """
        from npu.generation.quantized import source_class

        timings: dict[str, float] = {}
        if not isinstance(cache, bool | str | os.PathLike):
            raise invalid("cache has the wrong type", short_repr(cache), "a folder, True or False")
        programs = users_cache() if cache is True else Cache(Path(cache)) if cache else None
        source = source_class(folder)(folder, dtype, programs, timings)
        if "tokenizer" not in options:
            options["tokenizer"] = source.tokenizer()
        return cls(source, cache=programs, timings=timings, **options)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the caches of one row of a batch."""
        program = self._program(1, 1).executor.program
        return sum(int(np.prod(spec.shape)) * _width(spec.dtype) for spec in program.inputs if spec.state)

    @property
    def weights(self) -> Weights:
        """The weights that all programs share."""
        if self._weights is None:
            self.prepare()
        assert self._weights is not None
        return self._weights

    def prepare(self, batch: int = 1, buckets: Iterable[int] | None = None) -> None:
        """Compile and load programs now, instead of when they are first needed."""
        batch = whole_number("the batch", batch, "at least 1 prompt", 1)
        wanted = self.buckets if buckets is None else listed("buckets", buckets, "numbers of tokens")
        for rows in wanted:
            self._program(batch, _rows(rows, self.capacity))

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        max_new_tokens: int = 128,
        *,
        on_token: Callable[[Piece], None] | None = None,
        **options: Any,
    ) -> Any:
        """Continue a prompt; returns a ``Generation``, or a list of them for a list of prompts.

        A prompt is a text or a list of tokens. Prompts of a list may differ in length and are continued together.
        ``options`` are those of ``stream``.
        """
        if on_token is not None and not callable(on_token):
            raise invalid("on_token must be callable", short_repr(on_token), "a function that takes a Piece")
        run = self._start(prompt, max_new_tokens, options)
        for piece in run.pieces():
            if on_token is not None:
                on_token(piece)
        return run.results if run.is_batch else run.results[0]

    def stream(self, prompt: Prompt | Sequence[Prompt], max_new_tokens: int = 128, **options: Any) -> Iterator[Piece]:
        """Continue a prompt token by token. Starting another generation ends this one.

        ``temperature`` (0: the most likely token), ``top_k``, ``top_p``, ``repetition_penalty`` and ``seed`` say how
        tokens are chosen, and ``stop_tokens`` (by default the model's own) and ``stop_strings`` where the text ends.
        ``reuse=True`` does not compute the part of the prompt again that is still in the caches.
        """
        return self._start(prompt, max_new_tokens, options).pieces()

    def logits(self, tokens: Sequence[int]) -> npt.NDArray[Any]:
        """The logits of the next token, in the model's dtype."""
        run = self._start(tokens, 1, {})
        if run.is_batch:
            raise invalid("logits takes a single prompt", f"{len(run.prompts)} prompts", "the tokens of one")
        with self._lock:
            outputs = run.read_prompt()
        scores: npt.NDArray[Any] = outputs["logits"].to_numpy(copy=True)[0]
        return scores

    def _start(self, prompt: Any, max_new_tokens: int, options: dict[str, Any]) -> Run:
        return Run(self, prompt, max_new_tokens, **options)

    def encode(self, prompt: Prompt) -> list[int]:
        """The tokens of a prompt, after checking them."""
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise invalid(
                    "a text prompt needs a tokenizer", repr(prompt[:40]), "token ids", "passing tokenizer=..."
                )
            prompt = self.tokenizer(prompt)["input_ids"]
        try:
            tokens = np.asarray(prompt)
            integers = tokens.ndim == 1 and (tokens.size == 0 or tokens.dtype.kind in "iu")
        except (ValueError, TypeError):
            integers = False
        if not integers:
            raise invalid("a prompt must be a text or a list of tokens", f"{prompt!r:.60}", "a str or integers")
        if tokens.size == 0:
            raise invalid("the prompt is empty", "no tokens", "at least one token")
        outside = tokens[(tokens < 0) | (tokens >= self.vocabulary)]
        if outside.size:
            raise invalid("a token is not in the vocabulary", outside[0], f"a number from 0 to {self.vocabulary - 1}")
        if tokens.size > self.capacity:
            got = f"{tokens.size} tokens"
            if self.capacity == self.positions:
                raise invalid("the prompt is too long for the model", got, f"at most {self.positions}")
            action = "a larger capacity="
            raise invalid("the prompt is longer than the capacity", got, f"at most {self.capacity}", action)
        return [int(token) for token in tokens]

    def _program(self, batch: int, rows: int) -> _Program:
        key = batch, rows
        if key not in self._programs:
            executor = self._make(batch, rows)
            session = executor.session()
            others = [p for (b, _), p in self._programs.items() if b == batch]
            if others:
                session.share_state(others[0].session)
            self._programs[key] = _Program(executor, session)
        return self._programs[key]

    def _make(self, batch: int, rows: int) -> Executor:
        what = f"{rows} token{'s' if rows > 1 else ''}" + (f" of {batch}" if batch > 1 else "")
        int8 = self.cache_dtype is not None
        name = f"{batch}x{rows}-{self.capacity}" + ("-int8" if int8 else "")
        program = self._compiled(
            name, what, lambda: self._source.extract(batch, rows, self.capacity, int8), self._source.schemes
        )
        with self._stage("load", what) as tell:
            executor = Executor(program, self.device, threads=self._threads)
            copied = [s.name for s in executor.program.inputs if s.name.startswith("caches_") and not s.state]
            if copied:
                raise invalid("every step would copy a cache", copied[0], "a cache that the model updates in place")
            if self._weights is None:
                self._weights = self._source.weights_for(program, self.device)
            self._weights.check(program)
            executor.prepare(self._weights, tell)
        return executor

    def sampler_executor(self, rules: Rules, batch: int, vocabulary: int, dtype: str) -> Executor:
        """The executor that chooses tokens by these rules; compiled at its first use."""
        name = f"{rules.name}-{dtype}-{batch}x{vocabulary}"
        if name not in self._samplers:

            def extract() -> Any:
                from npu.generation.draw import extract_draw

                return extract_draw(rules, batch, vocabulary, dtype)

            program = self._compiled(name, "sampler", extract)
            with self._stage("load", "sampler"):
                self._samplers[name] = Executor(program, self.device, threads=1)  # its ops are too short for threads
        return self._samplers[name]

    def _compiled(self, name: str, what: str, extract: Callable[[], Any], schemes: _Schemes | None = None) -> Any:
        """The program from the cache if it is valid there; otherwise it is compiled and cached."""
        import npu_compiler

        key = None if npu_compiler.is_extended() else self._source.key()  # an extension may change any program
        cache, file = self._cache if key is not None else None, f"{key}-{name}.npubin"
        cached = cache.find(file) if cache is not None else None
        if cached is not None:
            with contextlib.suppress(NPUError):
                return npu_compiler.CompiledProgram.load(cached)
        with self._stage("extract", what):
            ir = extract()
        with self._stage("compile", what):
            program = npu_compiler.compile(ir, quantized=schemes(ir) if schemes else None)
        if cache is not None:
            cache.keep(file, program.to_bytes())
        return program

    def _stage(self, stage: str, what: str) -> _Stage:
        return _Stage(self, stage, f"{stage} {what}")

    def _begin(self, batch: int, keep: bool) -> int:
        """Start a new generation, with empty caches unless ``keep``."""
        self._turn += 1
        if not keep:
            sessions = [p.session for (b, _), p in self._programs.items() if b == batch]
            for session in sessions:
                session.reset()
            for session in sessions[1:]:
                session.share_state(sessions[0])
        return self._turn


class _Stage:
    """Measures the time of a stage and reports its progress."""

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


def _capacity(capacity: Any, facts: Facts) -> int:
    if capacity is None:
        return min(CAPACITY, facts.positions or CAPACITY)
    if not facts.positions:
        return whole_number("the capacity", capacity, "at least 1", 1)
    rule = f"1 to {facts.positions}, the number of positions of the model"
    return whole_number("the capacity", capacity, rule, 1, facts.positions)


def _buckets(buckets: Any, facts: Facts, capacity: int) -> tuple[int, ...]:
    if buckets is None:
        buckets = EXPERT_BUCKETS if facts.experts else BUCKETS
    wanted = listed("buckets", buckets, "numbers of tokens")
    sizes = [whole_number("a bucket", rows, "at least 1 token", 1) for rows in wanted]
    return tuple(sorted({1, *(rows for rows in sizes if rows <= capacity)}))


def _cache_dtype(dtype: Any) -> str | None:
    name = None if dtype is None else str(dtype).removeprefix("torch.")
    if name not in (None, "int8"):
        raise invalid("cache_dtype is not supported", short_repr(dtype), "'int8', or None for the model's own")
    return name


def _rows(rows: Any, capacity: int) -> int:
    return whole_number("a bucket", rows, f"1 to {capacity} tokens, which is the capacity", 1, capacity)


def _device(device: Any) -> Device:
    return device if isinstance(device, Device) else Device(device)


def _tokenizer(tokenizer: Any) -> Any:
    if tokenizer is not None and not (callable(tokenizer) and callable(getattr(tokenizer, "decode", None))):
        expected = "a callable that takes a text and has a method decode"
        raise invalid("tokenizer has the wrong type", short_repr(tokenizer), expected)
    return tokenizer


def _width(dtype: str) -> int:
    return int(dtype.lstrip("abcdefghijklmnopqrstuvwxyz") or 8) // 8
