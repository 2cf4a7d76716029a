"""Caches of int8: what is generated is what PyTorch computes when it rounds each key and value in the same way."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import npu
import numpy as np
import pytest
import torch
from npu.cli import main
from npu.generation import UnsupportedModelError
from npu.generation.int8_cache import dequantized_rows, quantized_rows
from npu_runtime import InvalidValueError
from torch import Tensor
from transformers import DynamicCache

from tests.models.zoo.language_models import causal, continued, tokens
from tests.support import numbers
from tests.support.devices import chosen_device, metal_device


class RoundedCache(DynamicCache):
    """Keys and values in the dtype of the model, each row rounded to 127 steps of its largest element."""

    def update(self, key_states: Tensor, value_states: Tensor, *more: Any, **named: Any) -> tuple[Tensor, Tensor]:
        rounded = []
        for rows in (key_states, value_states):
            step = rows.abs().amax(-1, keepdim=True) / 127
            rounded.append((rows / step).round() * step)
        return super().update(*rounded, *more, **named)


def scores(model: Any, prompt: list[int]) -> Tensor:
    with torch.no_grad():
        done = model(torch.tensor([prompt]), past_key_values=RoundedCache(), use_cache=True)
    return done.logits[0, -1]  # type: ignore[no-any-return]


def continued_rounded(model: Any, prompt: list[int], count: int) -> list[int]:
    sequence = list(prompt)
    for _ in range(count):
        sequence.append(int(scores(model, sequence).argmax()))
    return sequence[len(prompt) :]


def int8_generator(model: Any, **options: Any) -> npu.Generator:
    options = {"capacity": 64, "device": chosen_device(), "buckets": (1, 16), **options}
    return npu.Generator.from_model(model, cache_dtype="int8", **options)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama3", "mistral", "gemma", "gemma3", "phi", "gpt2", "mixtral"])
def test_families(family: str) -> None:
    """Prompts in chunks of 16 tokens and of one, then token by token."""
    model, prompt = causal(family), tokens(21)
    assert int8_generator(model).generate(prompt, 8).tokens == continued_rounded(model, prompt, 8)


@pytest.mark.parametrize("kind", ["chosen", "metal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_scores(dtype: torch.dtype, kind: str) -> None:
    model, prompt = causal("qwen2", dtype), tokens(37)
    made = int8_generator(model, device=chosen_device() if kind == "chosen" else metal_device())
    exact, own = scores(copy.deepcopy(model).double(), prompt), scores(model, prompt)
    numbers.check(made.logits(prompt), exact, own, "logits")


def test_the_rounding_is_small_but_there() -> None:
    """Against a cache that is not rounded."""
    model, prompt = causal("qwen2"), tokens(37)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(torch.tensor([prompt])).logits[0, -1].numpy()
    got = int8_generator(model).logits(prompt)
    error = np.linalg.norm(got - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.02


def test_prompts_of_a_batch_and_a_conversation() -> None:
    made = int8_generator(causal("qwen2"))
    prompts = [tokens(9), tokens(23, 2), tokens(1, 3)]
    alone = [made.generate(prompt, 6).tokens for prompt in prompts]
    assert [g.tokens for g in made.generate(prompts, 6)] == alone
    first = made.generate(prompts[0], 6)
    longer = [*prompts[0], *first.tokens, 5]
    again = made.generate(longer, 6, reuse=True)
    assert again.reused_tokens == len(longer) - 2
    assert again.tokens == made.generate(longer, 6).tokens


def test_bytes() -> None:
    """A byte for an element, and a float32 for a row."""
    model = causal("qwen2")
    plain = npu.Generator.from_model(model, capacity=64, device=chosen_device(), buckets=(1,)).cache_bytes
    rows, width = 2 * 2 * 2 * 64, 16
    assert plain == rows * width * 4
    assert int8_generator(model, buckets=(1,)).cache_bytes == rows * (width + 4)


@pytest.mark.parametrize("family", ["qwen2", "gpt2", "phi"])
def test_attention_reads_the_integers(family: str) -> None:
    made = int8_generator(causal(family))
    for rows in (1, 16):
        ops = made._program(1, rows).executor.program.text().splitlines()
        attentions = [line for line in ops if " = attention(" in line]
        assert len(attentions) == 2 and all("key_scales=" in line for line in attentions)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = causal("qwen2")
    model.save_pretrained(tmp_path / "model")
    capsys.readouterr()
    prompt = tokens(5)
    ids = ",".join(map(str, prompt))
    for _ in range(2):  # the second time with programs from the cache, beside those of the model's dtype
        outputs = []
        for more in ([], ["--cache-dtype", "int8"]):
            arguments = ["generate", str(tmp_path / "model"), "--ids", ids, "--tokens", "6", "--capacity", "32"]
            assert main([*arguments, "--device", "cpu", "--cache", str(tmp_path / "programs"), *more]) == 0
            outputs.append([int(token) for token in capsys.readouterr().out.split(",")])
        assert outputs == [continued(model, prompt, 6), continued_rounded(model, prompt, 6)]


def test_rows_without_a_scale() -> None:
    rows = torch.tensor([[0.0, -0.0], [1e-45, 0.0], [1e-43, -3e-44], [math.inf, 1.0], [math.nan, 1.0], [3.0, -1.5]])
    integers, scales = quantized_rows(rows)
    numbers_of = dequantized_rows(integers, scales, torch.float32)
    assert integers.tolist()[3:] == [[0, 0], [0, 0], [127, -64]]
    assert numbers_of[3:5].isnan().all() and not numbers_of[:3].isnan().any()
    torch.testing.assert_close(numbers_of[:3], rows[:3], rtol=0, atol=1e-42)


def test_what_is_refused() -> None:
    model = causal("qwen2")
    for wrong in ("int4", "float16", torch.uint8, 8, ""):
        with pytest.raises(InvalidValueError, match="cache_dtype is not supported; got .*; expected 'int8'"):
            npu.Generator.from_model(model, cache_dtype=wrong)
    with pytest.raises(UnsupportedModelError, match="Gemma2ForCausalLM caps .*softcap.* expected None"):
        int8_generator(causal("gemma2")).prepare()
    assert npu.Generator.from_model(model, cache_dtype=torch.int8).cache_dtype == "int8"
