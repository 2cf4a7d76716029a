"""Decoding with a Qwen2: a step that takes its caches as inputs and returns them updated, and the prompt before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2ForCausalLM
from transformers.cache_utils import Cache

from tests.models.zoo.language_models import causal


class FlatCache(Cache):
    """Caches that are plain tensors, written at ``position``."""

    def __init__(self, flat: list[Tensor], position: Tensor) -> None:
        super().__init__(layers=[])
        self.flat, self.position = list(flat), position

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        for offset, new in ((0, key), (1, value)):
            self.flat[2 * layer + offset] = self.flat[2 * layer + offset].index_copy(2, self.position, new)
        return self.flat[2 * layer], self.flat[2 * layer + 1]

    def get_seq_length(self, *_: Any, **__: Any) -> int:
        return 0


class DecodeStep(nn.Module):
    def __init__(self, model: Qwen2ForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        cache_position: Tensor,
        past: list[Tensor],
    ) -> tuple[Tensor, ...]:
        cache = FlatCache(past, cache_position)
        out = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, past_key_values=cache,
            use_cache=True,
        )  # fmt: skip
        return (out.logits, *cache.flat)


def tiny_qwen2(dtype: torch.dtype = torch.float32) -> Qwen2ForCausalLM:
    """With three heads for each of keys and values, and attention that export can follow."""
    model: Qwen2ForCausalLM = causal(
        "qwen2", dtype, spread=0.08, hidden_size=96, intermediate_size=160, num_attention_heads=6,
        attn_implementation="eager",
    )  # fmt: skip
    return model


def step_inputs(model: Qwen2ForCausalLM, token: int, position: int, past: list[Tensor]) -> tuple[Any, ...]:
    """What a decode step takes at ``position``; places after it are masked."""
    length = past[0].shape[2]
    mask = torch.zeros(1, 1, 1, length, dtype=past[0].dtype)
    mask[..., position + 1 :] = torch.finfo(past[0].dtype).min
    return (
        torch.tensor([[token]]), mask, torch.tensor([[position]]), torch.tensor([position]), past,
    )  # fmt: skip


def empty_caches(model: Qwen2ForCausalLM, length: int) -> list[Tensor]:
    config = model.config
    shape = (1, config.num_key_value_heads, length, config.hidden_size // config.num_attention_heads)
    return [torch.zeros(shape, dtype=model.dtype) for _ in range(2 * config.num_hidden_layers)]


class Prefill(nn.Module):
    """Logits of a whole prompt, then the keys and values of every layer."""

    def __init__(self, model: Qwen2ForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, cache_position: Tensor
    ) -> tuple[Tensor, ...]:
        out = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids,
            cache_position=cache_position, use_cache=True,
        )  # fmt: skip
        layers = out.past_key_values.layers
        return (out.logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values)))


def prompt_inputs(prompt: Tensor) -> tuple[Tensor, ...]:
    length = prompt.shape[1]
    mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
    return prompt, mask[None, None], torch.arange(length)[None], torch.arange(length)
