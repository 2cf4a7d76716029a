"""Qwen2.5-1.5B at its full size, with random weights: tokens and scores are those of PyTorch. Needs 20 GB."""

from __future__ import annotations

from typing import Any

import npu
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.runtime import numbers
from tests.runtime.devices import device_of

pytestmark = pytest.mark.slow
PROMPT = [(7919 * i + 13) % 151936 for i in range(150)]
TOKENS = 64


def qwen(dtype: torch.dtype) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
        num_key_value_heads=2, max_position_embeddings=32768, rope_theta=1e6, rms_norm_eps=1e-6,
        tie_word_embeddings=True, eos_token_id=None, dtype=dtype,
    )  # fmt: skip
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model = Qwen2ForCausalLM(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(default)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.uniform_(0.5, 1.5)
        elif parameter.ndim == 1:
            parameter.normal_(0, 0.1)
    return model


def last_scores(model: Any) -> torch.Tensor:
    with torch.no_grad():
        scores: torch.Tensor = model(torch.tensor([PROMPT]), logits_to_keep=1).logits[0, -1]
    return scores


def test_greedy_tokens_are_those_of_pytorch() -> None:
    model = qwen(torch.float32)
    wanted = model.generate(torch.tensor([PROMPT]), max_new_tokens=TOKENS, do_sample=False)[0, len(PROMPT) :]
    generator = npu.Generator.from_model(model, capacity=256, device=device_of("chosen"), stop_tokens=())
    found = generator.generate(PROMPT, TOKENS)
    assert found.tokens == wanted.tolist()
    assert len(set(found.tokens)) > 8, "tokens that repeat would hide what depends on their positions"


def test_scores_in_bfloat16() -> None:
    model = qwen(torch.bfloat16)
    generator = npu.Generator.from_model(model, capacity=256, device=device_of("chosen"), stop_tokens=())
    own = last_scores(model)
    ours = generator.logits(PROMPT)
    exact = last_scores(model.float())  # as good as float64 beside bfloat16
    numbers.check(ours, exact, own, "scores")
