"""Language models with seeded weights that matter: small ones of many families, and a few at their full size."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf

VOCABULARY = 211
_BASE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}
_PLAIN_HEADS = {k: v for k, v in _BASE.items() if k != "num_key_value_heads"}
_EXPERTS = {
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}

FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {**_BASE, "rope_theta": 1e6}),
    "qwen2_windows": (
        "Qwen2ForCausalLM", "Qwen2Config",
        {**_BASE, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**_BASE, "head_dim": 16}),
    "llama3": ("LlamaForCausalLM", "LlamaConfig", {**_BASE, "rope_parameters": _LLAMA3}),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**_BASE, "sliding_window": 8, "head_dim": 16}),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", {**_BASE, "head_dim": 16}),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", {**_BASE, "head_dim": 16, "sliding_window": 8}),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", {**_BASE, "head_dim": 16, "sliding_window": 8}),
    "phi": ("PhiForCausalLM", "PhiConfig", _BASE),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", {**_BASE, "pad_token_id": 0}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", _GPT2),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", _PLAIN_HEADS),
    "olmo": ("OlmoForCausalLM", "OlmoConfig", _BASE),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", _BASE),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", {**_BASE, "num_local_experts": 4}),
    "qwen2_moe": ("Qwen2MoeForCausalLM", "Qwen2MoeConfig", {**_BASE, **_EXPERTS}),
}  # fmt: skip


def causal(family: str, dtype: torch.dtype = torch.float32, spread: float = 0.12, **changes: Any) -> Any:
    """A small model of a family; ``changes`` are of its configuration."""
    kind, config_kind, options = FAMILIES[family]
    config = getattr(hf, config_kind)(**{**options, "bos_token_id": None, "eos_token_id": None, **changes})
    torch.manual_seed(0)
    model = getattr(hf, kind)(config).eval().requires_grad_(False)
    draw_weights(model, spread)
    return model.to(dtype)


def draw_weights(model: torch.nn.Module, spread: float) -> None:
    """Weights that matter: those of norms are not all one, biases not all zero."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and ("norm" in name or "ln_" in name) and "bias" not in name:
            parameter.uniform_(0.5, 1.5)
        else:
            parameter.normal_(0, 0.1 if parameter.ndim == 1 else spread)


def qwen2_5_1_5b_config(**changes: Any) -> Any:
    return hf.Qwen2Config(
        **{
            "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
            "num_attention_heads": 12, "num_key_value_heads": 2, "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True, **changes,
        }
    )  # fmt: skip


def qwen2_5_1_5b(dtype: torch.dtype) -> Any:
    """At its full size, with weights."""
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model = hf.Qwen2ForCausalLM(qwen2_5_1_5b_config(eos_token_id=None, dtype=dtype)).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(default)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.uniform_(0.5, 1.5)
        elif parameter.ndim == 1:
            parameter.normal_(0, 0.1)
    return model


def qwen2_5_1_5b_on_meta(**changes: Any) -> Any:
    return _on_meta(hf.Qwen2ForCausalLM, qwen2_5_1_5b_config(**changes))


def llama_70b_on_meta(layers: int = 80) -> Any:
    config = hf.LlamaConfig(
        vocab_size=128256, hidden_size=8192, intermediate_size=28672, num_hidden_layers=layers, num_attention_heads=64,
        num_key_value_heads=8, max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
    )  # fmt: skip
    return _on_meta(hf.LlamaForCausalLM, config)


def _on_meta(kind: Any, config: Any) -> Any:
    with torch.device("meta"):
        return kind(config).to(torch.bfloat16).eval().requires_grad_(False)


def bert(add_pooling_layer: bool = True, **changes: Any) -> Any:
    """BERT-base, or one of another size: ``changes`` are of its configuration."""
    torch.manual_seed(0)
    return hf.BertModel(hf.BertConfig(**changes), add_pooling_layer).eval().requires_grad_(False)


def tokens(count: int, seed: int = 1) -> list[int]:
    return torch.randint(0, VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def continued(model: Any, prompt: list[int], count: int) -> list[int]:
    """The likeliest tokens, by transformers itself."""
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)
    return out[0, len(prompt) :].tolist()


class Letters:
    """A tokenizer for tests: most tokens are a letter, 200 and 201 are one together."""

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [ord(c) % 199 + 1 for c in text]}

    def decode(self, numbers: list[int], skip_special_tokens: bool = True) -> str:
        text, i = "", 0
        while i < len(numbers):
            if numbers[i] == 200:
                whole = i + 1 < len(numbers) and numbers[i + 1] == 201
                text += "é" if whole else "\ufffd"
                i += 2 if whole else 1
                continue
            text += chr(97 + numbers[i] % 26)
            i += 1
        return text
