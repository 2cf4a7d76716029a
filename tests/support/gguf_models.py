"""Models of transformers as GGUF files: what llama.cpp's convert_hf_to_gguf.py writes of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from npu.quantized.gguf.rope import llama3_factors

from tests.support.gguf_files import Tensor

__all__ = ["FAMILIES", "to_gguf"]

Array = np.ndarray[Any, Any]
FAMILIES = {
    "llama3": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma": "gemma", "gemma2": "gemma2",
    "gemma3": "gemma3", "phi": "phi2", "phi3": "phi3", "olmo": "olmo", "olmo2": "olmo2",
}  # fmt: skip
"""Of the models of tests, and what GGUF calls them."""

_PARTS = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "model.final_layernorm": "output_norm",
    "lm_head": "output", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.dense": "attn_output", "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up", "mlp.fc1": "ffn_up", "mlp.down_proj": "ffn_down",
    "mlp.fc2": "ffn_down",
}  # fmt: skip
_NORMS_AFTER = {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
_PLUS_ONE, _PERMUTED = ("gemma", "gemma2", "gemma3"), ("llama", "olmo")
_LAYERS_WITH_NORMS_AFTER = ("gemma2", "gemma3", "olmo2")

Encode = Callable[[str, Array], Tensor | None]


def to_gguf(model: Any, architecture: str, encode: Encode | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and tensors, in float32 but for those that ``encode`` writes otherwise."""
    config = model.config
    parts = {**_PARTS, **(_NORMS_AFTER if architecture in _LAYERS_WITH_NORMS_AFTER else {})}
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        stem, _, kind = name.rpartition(".")
        ours = f"blk.{match[1]}.{parts[match[2]]}.{match[3]}" if match else f"{parts[stem]}.{kind}"
        values = parameter.float().numpy()
        if architecture in _PLUS_ONE and name.endswith("norm.weight"):
            values = values + np.float32(1)
        if architecture in _PERMUTED and re.search(r"self_attn\.[qk]_proj", name):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            values = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:]).swapaxes(1, 2)
            values = values.reshape(parameter.shape)
        tensors[ours] = (encode and encode(ours, values)) or Tensor(0, values.shape, values.tobytes())
    metadata = _metadata(config, architecture)
    scaling = getattr(config, "rope_parameters", None) or {}
    if scaling.get("rope_type") == "llama3":
        factors = llama3_factors(
            scaling["rope_theta"], config.head_dim, scaling["factor"], scaling["original_max_position_embeddings"]
        ).astype(np.float32)
        tensors["rope_freqs.weight"] = Tensor(0, factors.shape, factors.tobytes())
    return metadata, tensors


def _metadata(config: Any, architecture: str) -> dict[str, Any]:
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = getattr(config, "rope_parameters", None) or {}
    full = rope.get("full_attention", rope)
    values = {
        "context_length": config.max_position_embeddings, "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads, "attention.head_count_kv": config.num_key_value_heads,
        "rope.freq_base": float(full.get("rope_theta", 10000.0)), "vocab_size": config.vocab_size,
        "rope.dimension_count": int(head_dim * full.get("partial_rotary_factor", 1.0)),
        "attention.key_length": head_dim, "attention.value_length": head_dim,
    }  # fmt: skip
    if hasattr(config, "rms_norm_eps"):
        values["attention.layer_norm_rms_epsilon"] = float(config.rms_norm_eps)
    else:
        values["attention.layer_norm_epsilon"] = float(getattr(config, "layer_norm_eps", 1e-5))
    if getattr(config, "sliding_window", None):
        values["attention.sliding_window"] = config.sliding_window
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if getattr(config, name, None):
            values[name] = float(getattr(config, name))
    if "sliding_attention" in rope:
        values["rope.freq_base_swa"] = float(rope["sliding_attention"]["rope_theta"])
    return {"general.architecture": architecture, **{f"{architecture}.{key}": value for key, value in values.items()}}
