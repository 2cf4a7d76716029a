"""Tokens drawn on the device: the rules of transformers, the chances that NumPy computes, seeds that repeat."""

from __future__ import annotations

from functools import cache
from typing import Any

import npu
import npu_compiler
import numpy as np
import numpy.typing as npt
import pytest
import torch
from npu.generation import Sampling, probabilities
from npu.generation.draw import extract_draw
from npu.generation.sampler import Sampler
from npu.generation.sampling import Rules, UniformNumbers
from npu_runtime import Executor, InvalidValueError, NPUBuffer

from tests.models.zoo.language_models import VOCABULARY, Letters, causal, tokens
from tests.support.devices import chosen_device, device_of

OPTIONS = [
    {"temperature": 0.7}, {"temperature": 1.3, "top_k": 7}, {"temperature": 1.0, "top_p": 0.6},
    {"temperature": 0.9, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.3}, {"temperature": 2.0, "top_k": 500},
    {"temperature": 0.5, "repetition_penalty": 0.7, "top_p": 0.05}, {"temperature": 1.0, "top_k": 1},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_are_those_of_transformers(options: dict[str, Any], seed: int) -> None:
    from transformers.generation import logits_process as hf

    random = torch.Generator().manual_seed(seed)
    scores, history = torch.randn(1, VOCABULARY, generator=random) * 3, tokens(12, seed)
    rules = [
        hf.RepetitionPenaltyLogitsProcessor(options.get("repetition_penalty", 1.0)),
        hf.TemperatureLogitsWarper(options["temperature"]),
        *([hf.TopKLogitsWarper(options["top_k"])] if "top_k" in options else []),
        *([hf.TopPLogitsWarper(options["top_p"])] if "top_p" in options else []),
    ]
    wanted = scores
    for rule in rules:
        wanted = rule(torch.tensor([history]), wanted)
    wanted = wanted.softmax(-1)[0].numpy()
    got = probabilities(scores[0].numpy(), history, Sampling(**options))
    assert ((got > 0) == (wanted > 0)).all()
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-7)


@cache
def program_of(rules: Rules, batch: int, vocabulary: int, dtype: str) -> Any:
    return npu_compiler.compile(extract_draw(rules, batch, vocabulary, dtype))


class Source:
    """Makes samplers without a model."""

    def __init__(self, kind: str = "chosen") -> None:
        self.device = device_of(kind)

    def sampler_executor(self, rules: Rules, batch: int, vocabulary: int, dtype: str) -> Executor:
        return Executor(program_of(rules, batch, vocabulary, dtype), self.device, threads=1)


def chosen(
    scores: torch.Tensor, sampling: Sampling, draws: int = 1, kind: str = "chosen", prompts: Any = None
) -> list[list[int]]:
    """``draws`` times the tokens of all rows."""
    source = Source(kind)
    sampler = Sampler(source, sampling, prompts or [[0]] * len(scores))
    logits = NPUBuffer.from_numpy(scores, source.device)
    sampler.prepare(logits)
    return [sampler.choose(logits) for _ in range(draws)]


def is_drawn(chances: npt.NDArray[Any], uniform: float, token: int) -> bool:
    """Whether the number falls on the token, where all lie behind each other; rounding may move borders."""
    sums = np.cumsum(chances, dtype=np.float64) / chances.sum(dtype=np.float64)
    low, high = (sums[token - 1] if token else 0.0), sums[token]
    return bool(chances[token] > 0 and low - 1e-5 <= uniform <= high + 1e-5)


def scores_of(rows: int, vocabulary: int, ties: bool, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    found = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 3
    return (found.mul(2).round() / 2 if ties else found).to(dtype)


DRAWN = [
    {"temperature": 1.0},
    *OPTIONS,
    {"temperature": 0.8, "top_p": 0.999},
    {"temperature": 0.0, "repetition_penalty": 1.7},
]


@pytest.mark.parametrize("options", DRAWN, ids=str)
@pytest.mark.parametrize("kind", ["chosen", "metal"])
def test_draws_are_those_that_the_numbers_fall_on(options: dict[str, Any], kind: str) -> None:
    for vocabulary, dtype in ((5, torch.float32), (600, torch.float32), (1300, torch.bfloat16), (512, torch.float16)):
        for ties in (False, True):
            _check_draws(options, scores_of(2, vocabulary, ties, dtype), kind, 12 if kind == "chosen" else 4)


def _check_draws(options: dict[str, Any], scores: torch.Tensor, kind: str, draws: int) -> None:
    sampling, rows = Sampling(**options, seed=5), len(scores)
    prompts = [[t % scores.shape[1] for t in tokens(4, row)] for row in range(rows)]
    numbers = UniformNumbers(5, rows)
    history = [list(prompt) for prompt in prompts]
    for found in chosen(scores, sampling, draws, kind, prompts):
        uniform = numbers.draw()
        for row, token in enumerate(found):
            chances = probabilities(scores[row].float().numpy(), history[row], sampling)
            assert is_drawn(chances, uniform[row], token)
            history[row].append(token)


@pytest.mark.parametrize("options", [{"top_k": 5}, {"top_p": 0.7}, {"top_k": 9, "top_p": 0.8}, {}], ids=str)
def test_draws_follow_the_probabilities(options: dict[str, Any]) -> None:
    sampling, rows, draws = Sampling(temperature=1.0, seed=3, **options), 256, 80
    scores = scores_of(1, 50, False, torch.float32)
    drawn = np.array(chosen(scores.expand(rows, -1).contiguous(), sampling, draws)).ravel()
    shares = np.bincount(drawn, minlength=50) / drawn.size
    wanted = probabilities(scores[0].numpy(), [], sampling)
    assert (shares[wanted == 0] == 0).all()
    np.testing.assert_allclose(shares, wanted, atol=4 * np.sqrt(0.25 / drawn.size))


def test_equal_scores() -> None:
    """Of equal ones the first remain; the last of top-k bring all their equals."""
    scores = torch.zeros(200, 8)
    half = np.unique(chosen(scores, Sampling(temperature=1, top_p=0.5), 4))
    assert half.tolist() == [0, 1, 2, 3]
    assert np.unique(chosen(scores, Sampling(temperature=1, top_k=2), 4)).tolist() == list(range(8))
    assert np.unique(chosen(scores, Sampling(temperature=1, top_k=2, top_p=0.5), 4)).tolist() == [0, 1, 2, 3]


EXTREMES: list[dict[str, Any]] = [
    {"temperature": 1e-30}, {"temperature": 1e-42}, {"temperature": 1.0, "top_p": 1e-30},
    {"temperature": 1.0, "top_p": 1e-30, "top_k": 3}, {"temperature": 1.0, "top_k": 1},
]  # fmt: skip


@pytest.mark.parametrize("options", EXTREMES, ids=str)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e30])
def test_extremes_take_the_likeliest(options: dict[str, Any], size: float) -> None:
    scores = torch.randn(4, 700, generator=torch.Generator().manual_seed(2)) * size
    scores[:, ::3] = -torch.inf
    if "top_k" not in options and size < 1:
        scores *= 1e3  # top_p alone: closer than float32 can tell apart is equal
    sampling = Sampling(**options)
    if sampling.greedy:
        assert sampling.likeliest
    else:
        assert chosen(scores, sampling) == [scores.argmax(-1).tolist()]


def test_hot_draws_take_what_is_possible() -> None:
    scores = torch.randn(300, 60)
    scores[:, 10:] = -torch.inf
    for options in ({}, {"top_k": 30}, {"top_p": 0.9999999}):
        found = np.unique(chosen(scores, Sampling(temperature=1e30, **options), 4))
        assert found.tolist() == list(range(10))


@pytest.mark.parametrize("kind", ["chosen", "metal"])
@pytest.mark.parametrize("options", DRAWN, ids=str)
def test_scores_that_are_no_numbers_are_refused(options: dict[str, Any], kind: str) -> None:
    scores = scores_of(2, 600, False, torch.float32)
    for row, wrong in ((1, float("nan")), (0, float("inf")), (slice(None), -float("inf"))):
        broken = scores.clone()
        broken[row, 599 if isinstance(row, int) else slice(None)] = wrong
        with pytest.raises(InvalidValueError, match="scores are not finite"):
            chosen(broken, Sampling(**options), kind=kind)


def test_what_was_seen_is_a_state() -> None:
    source = Source()
    sampler = Sampler(source, Sampling(repetition_penalty=1e9), [[3], [4, 20]])
    logits = NPUBuffer.from_numpy(np.tile(np.arange(20, 0, -1, dtype=np.float32), (2, 1)), source.device)
    sampler.prepare(logits)
    assert [sampler.choose(logits) for _ in range(5)] == [[0, 0], [1, 1], [2, 2], [4, 3], [5, 5]]
    program = program_of(Rules(greedy=True, top_k=0, top_p=False, penalty=True), 2, 20, "float32")
    assert [entry["name"] for entry in program.data["inputs"] if entry["state"]] == ["seen"]


@pytest.fixture(scope="module")
def qwen() -> Any:
    return causal("qwen2")


@pytest.fixture(scope="module")
def generator(qwen: Any) -> npu.Generator:
    return npu.Generator.from_model(qwen, capacity=64, device=chosen_device(), tokenizer=Letters(), buckets=(1, 16))


def test_scores_are_handed_over_as_they_lie(generator: npu.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    choose = Sampler.choose
    monkeypatch.setattr(Sampler, "choose", lambda self, logits: (given.append(logits), choose(self, logits))[1])
    generator.generate(tokens(5), 3, temperature=1.0)
    assert [type(logits) for logits in given] == [NPUBuffer] * 3


def test_samplers_are_made_once(qwen: Any) -> None:
    made = npu.Generator.from_model(qwen, capacity=32, device=chosen_device(), buckets=(1,))
    for temperature, top_p, top_k in ((0.5, 0.5, 0), (0.9, 0.4, 0), (0.9, 0.4, VOCABULARY)):
        made.generate(tokens(3), 2, temperature=temperature, top_p=top_p, top_k=top_k)
    assert len(made._samplers) == 1
    made.generate([tokens(3), tokens(4)], 2, temperature=0.5, top_p=0.5)
    made.generate(tokens(3), 2, temperature=0.5, top_k=7)
    assert len(made._samplers) == 3


def test_a_generation_draws_as_the_reference_does(qwen: Any, generator: npu.Generator) -> None:
    options: dict[str, Any] = {"temperature": 0.9, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.2, "seed": 11}
    history, numbers = tokens(6), UniformNumbers(11, 1)
    for token in generator.generate(history, 12, **options).tokens:
        with torch.no_grad():
            scores = qwen(torch.tensor([history])).logits[0, -1].numpy()
        assert is_drawn(probabilities(scores, history, Sampling(**options)), numbers.draw()[0], token)
        history = [*history, token]


def test_sampling_repeats_itself(generator: npu.Generator) -> None:
    options: dict[str, Any] = {"temperature": 1.0, "top_k": 50}
    once = generator.generate(tokens(6), 16, seed=7, **options).tokens
    assert generator.generate(tokens(6), 16, seed=7, **options).tokens == once
    assert generator.generate(tokens(6), 16, seed=8, **options).tokens != once
    rows = generator.generate([tokens(6), tokens(6)], 16, seed=7, **options)
    assert rows[0].tokens == once and rows[1].tokens != once
    assert generator.generate(tokens(6), 8, temperature=1.0, top_k=1).tokens == generator.generate(tokens(6), 8).tokens


def test_repetition_is_penalised(qwen: Any, generator: npu.Generator) -> None:
    ids = torch.tensor([tokens(8)])
    wanted = qwen.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False, repetition_penalty=1.5
    )
    assert generator.generate(tokens(8), 16, repetition_penalty=1.5).tokens == wanted[0, 8:].tolist()
