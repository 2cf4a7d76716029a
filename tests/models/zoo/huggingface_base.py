"""How the tables of Hugging Face architectures build models and make inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from .harness import ZooEntry

MakeInputs = Callable[[torch.Generator], dict[str, Any]]

VOCABULARY = 96
DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
}
ENCODER: dict[str, Any] = {k: v for k, v in DECODER.items() if k not in ("num_key_value_heads", "use_cache")}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
GPT2_LIKE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
}
T5_LIKE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "use_cache": False,
}
WHISPER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "num_mel_bins": 16,
    "max_source_positions": 20,
    "max_target_positions": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "use_cache": False,
}
BART_LIKE: dict[str, Any] = {
    **{k: v for k, v in WHISPER.items() if not k.startswith(("max_", "num_mel"))},
    "max_position_embeddings": 64,
}
SPEECH: dict[str, Any] = {
    **{k: v for k, v in ENCODER.items() if k != "max_position_embeddings"},
    "conv_dim": (16, 16, 16),
    "conv_stride": (5, 2, 2),
    "conv_kernel": (10, 3, 3),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
TWO_TOWERS: dict[str, Any] = {
    "text_config": {**ENCODER, "projection_dim": 24},
    "vision_config": {**VISION, "projection_dim": 24},
    "projection_dim": 24,
}


def construct(model: str, config: str, settings: dict[str, Any], part: str | None = None) -> nn.Module:
    import transformers

    built = getattr(transformers, model)(getattr(transformers, config)(**settings))
    return getattr(built, part) if part else built


def tokens(g: torch.Generator, *shape: int) -> torch.Tensor:
    """Never one of the special tokens, which come first."""
    return torch.randint(3, VOCABULARY, shape, generator=g)


def text(g: torch.Generator, length: int = 12) -> dict[str, Any]:
    """Two sentences, the first of them shorter."""
    mask = torch.ones(2, length, dtype=torch.int64)
    mask[0, -4:] = 0
    return {"input_ids": tokens(g, 2, length), "attention_mask": mask}


def ids_only(g: torch.Generator) -> dict[str, Any]:
    return {"input_ids": tokens(g, 2, 12)}


def translation(g: torch.Generator) -> dict[str, Any]:
    return {**text(g), "decoder_input_ids": tokens(g, 2, 7)}


def picture(g: torch.Generator, size: int = 32) -> dict[str, Any]:
    return {"pixel_values": torch.randn(1, 3, size, size, generator=g)}


def picture_with_noise(g: torch.Generator) -> dict[str, Any]:
    """The noise that chooses patches, which the model would draw itself."""
    return {**picture(g), "noise": torch.rand(1, 16, generator=g)}


def picture_and_text(g: torch.Generator) -> dict[str, Any]:
    return {**picture(g), **text(g, 10)}


def speech(g: torch.Generator) -> dict[str, Any]:
    return {"input_values": torch.randn(1, 800, generator=g)}


def filter_bank(g: torch.Generator) -> dict[str, Any]:
    return {"input_values": torch.randn(1, 40, 16, generator=g)}


def spectrogram(g: torch.Generator) -> dict[str, Any]:
    return {"input_features": torch.randn(1, 16, 40, generator=g)}


def transcription(g: torch.Generator) -> dict[str, Any]:
    return {**spectrogram(g), "decoder_input_ids": tokens(g, 1, 6)}


def other(name: str, model: str, config: str, inputs: MakeInputs, part: str | None = None, **settings: Any) -> ZooEntry:
    return ZooEntry(name, partial(construct, model, config, settings, part), inputs)


def decoder(prefix: str, *, name: str | None = None, config: str | None = None, **settings: Any) -> ZooEntry:
    settings = {**DECODER, **settings}
    return other(name or prefix, f"{prefix}ForCausalLM", config or f"{prefix}Config", ids_only, **settings)


def encoder(prefix: str, **settings: Any) -> ZooEntry:
    return other(prefix, f"{prefix}ForMaskedLM", f"{prefix}Config", text, **{**ENCODER, **settings})


def vision(prefix: str, **settings: Any) -> ZooEntry:
    return other(prefix, f"{prefix}ForImageClassification", f"{prefix}Config", picture, **settings)


def with_cache(prefix: str, **settings: Any) -> list[ZooEntry]:
    """Prefill that returns its cache, and a step that takes one and returns it longer."""
    build = partial(construct, f"{prefix}ForCausalLM", f"{prefix}Config", {**DECODER, "use_cache": True, **settings})
    return [
        ZooEntry(f"{prefix}, cache out", build, ids_only),
        ZooEntry(f"{prefix}, cache in and out", build, _decode_step),
    ]


def _decode_step(g: torch.Generator) -> dict[str, Any]:
    """One token after eight cached ones."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer in range(2):
        key, value = torch.randn(2, 1, 2, 8, 8, generator=g).unbind(0)
        cache.update(key, value, layer)
    return {
        "input_ids": tokens(g, 1, 1),
        "attention_mask": torch.ones(1, 9, dtype=torch.int64),
        "position_ids": torch.tensor([[8]]),
        "past_key_values": cache,
    }


def static_cache(g: torch.Generator) -> dict[str, Any]:
    """Four tokens into a cache of fixed size, which the model writes in place."""
    from transformers import LlamaConfig, StaticCache

    cache = StaticCache(config=LlamaConfig(**DECODER), max_cache_len=16)
    cache.early_initialization(1, 2, 8, torch.float32, torch.device("cpu"))
    return {"input_ids": tokens(g, 1, 4), "past_key_values": cache, "cache_position": torch.arange(4)}
