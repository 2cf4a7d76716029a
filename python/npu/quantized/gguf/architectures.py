"""The architectures of GGUF files: what each is called by Hugging Face, its tensors and its configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from npu.quantized.errors import refuse
from npu.quantized.gguf.file import GGUFFile
from npu.quantized.gguf.metadata import Metadata
from npu.quantized.gguf.rope import rope_config

__all__ = ["ARCHITECTURES", "Architecture", "architecture_of", "config_of", "hugging_face_name"]

_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
_LAYER = re.compile(r"blk\.(\d{1,6})\.(.+)\.(weight|bias)")
_SHARED = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ATTENTION = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}  # fmt: skip
_GATED = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_FOUR_NORMS = {
    "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
_LLAMA = {**_NORMS, **_ATTENTION, **_GATED}

Config = dict[str, Any]


def _nothing(metadata: Metadata, config: Config) -> Config:
    return {}


@dataclass(frozen=True)
class Architecture:
    """``layer`` and ``shared`` name its tensors. ``permuted``: rows of queries and keys lie in the order that pairs
    neighbours. ``norms_plus_one``: the weights of norms were stored with 1 added. ``more`` adds to the configuration.
    """

    model_type: str
    cls: str
    layer: Mapping[str, str]
    shared: Mapping[str, str] = field(default_factory=lambda: _SHARED)
    permuted: bool = False
    norms_plus_one: bool = False
    eps: tuple[str, str] = ("rms_norm_eps", "layer_norm_rms_epsilon")
    more: Callable[[Metadata, Config], Config] = _nothing


def _llama(metadata: Metadata, config: Config) -> Config:
    if ".attention.sliding_window" not in metadata:
        return {}
    window = metadata.count(".attention.sliding_window")
    return {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": window}


def _gemma(metadata: Metadata, config: Config) -> Config:
    return {"hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh"}


def _gemma2(metadata: Metadata, config: Config) -> Config:
    caps = {
        "attn_logit_softcapping": metadata.number(".attn_logit_softcapping", 50.0),
        "final_logit_softcapping": metadata.number(".final_logit_softcapping", 30.0),
    }
    return {**_gemma(metadata, config), **caps, **_windows(metadata, config, 46)}


def _gemma3(metadata: Metadata, config: Config) -> Config:
    local = {"rope_local_base_freq": metadata.number(".rope.freq_base_swa", 10000.0)}
    return {**_gemma(metadata, config), **local, **_windows(metadata, config, 62)}


def _windows(metadata: Metadata, config: Config, largest: int) -> Config:
    """Only the largest model of a family, with so many layers, scales queries by its width; files do not say so."""
    is_largest = config["num_hidden_layers"] == largest
    scale = config["hidden_size"] // config["num_attention_heads"] if is_largest else config["head_dim"]
    return {"sliding_window": metadata.count(".attention.sliding_window"), "query_pre_attn_scalar": scale}


def _partly_rotated(metadata: Metadata, config: Config) -> Config:
    rotated = metadata.count(".rope.dimension_count", config["head_dim"])
    return {"partial_rotary_factor": rotated / config["head_dim"]}


def _phi3(metadata: Metadata, config: Config) -> Config:
    window = {}
    if ".attention.sliding_window" in metadata:
        window = {"sliding_window": metadata.count(".attention.sliding_window", least=0) or None}
    return {**_partly_rotated(metadata, config), **window}


def _olmo(metadata: Metadata, config: Config) -> Config:
    clipped = ".attention.clamp_kqv" in metadata
    return {"clip_qkv": metadata.number(".attention.clamp_kqv")} if clipped else {}


_LAYER_EPS = ("layer_norm_eps", "layer_norm_epsilon")

ARCHITECTURES = {
    "llama": Architecture("llama", "LlamaForCausalLM", _LLAMA, permuted=True, more=_llama),
    "qwen2": Architecture("qwen2", "Qwen2ForCausalLM", _LLAMA),
    "qwen3": Architecture("qwen3", "Qwen3ForCausalLM", {**_LLAMA, **_HEAD_NORMS}),
    "gemma": Architecture("gemma", "GemmaForCausalLM", _LLAMA, norms_plus_one=True, more=_gemma),
    "gemma2": Architecture(
        "gemma2", "Gemma2ForCausalLM", {**_FOUR_NORMS, **_ATTENTION, **_GATED}, norms_plus_one=True, more=_gemma2
    ),
    "gemma3": Architecture(
        "gemma3_text", "Gemma3ForCausalLM", {**_FOUR_NORMS, **_ATTENTION, **_HEAD_NORMS, **_GATED},
        norms_plus_one=True, more=_gemma3,
    ),
    "phi2": Architecture(
        "phi", "PhiForCausalLM",
        {
            **_ATTENTION, "attn_norm": "input_layernorm", "attn_output": "self_attn.dense", "ffn_up": "mlp.fc1",
            "ffn_down": "mlp.fc2",
        },
        {**_SHARED, "output_norm": "model.final_layernorm"}, eps=_LAYER_EPS, more=_partly_rotated,
    ),
    "phi3": Architecture(
        "phi3", "Phi3ForCausalLM",
        {
            **_NORMS, "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj", "ffn_up": "mlp.gate_up_proj",
            "ffn_down": "mlp.down_proj",
        },
        more=_phi3,
    ),
    "olmo": Architecture(
        "olmo", "OlmoForCausalLM", {**_ATTENTION, **_GATED}, permuted=True, eps=("", "layer_norm_epsilon"), more=_olmo
    ),
    "olmo2": Architecture(
        "olmo2", "Olmo2ForCausalLM",
        {
            **_ATTENTION, **_GATED, **_HEAD_NORMS, "post_attention_norm": "post_attention_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        },
    ),
}  # fmt: skip


def architecture_of(metadata: Metadata) -> Architecture:
    architecture = ARCHITECTURES.get(metadata.architecture)
    if architecture is None:
        expected = f"one of {', '.join(ARCHITECTURES)}"
        refuse(metadata.path, "unsupported architecture", got=f"{metadata.architecture!r:.60}", expected=expected)
    if ".expert_count" in metadata and metadata.count(".expert_count", least=0) > 0:
        refuse(metadata.path, "models with experts are not supported", got=f"{metadata.architecture} with experts")
    return architecture


def hugging_face_name(architecture: Architecture, name: str) -> str | None:
    match = _LAYER.fullmatch(name)
    if match is not None:
        number, part, kind = match.groups()
        known = architecture.layer.get(part)
        return f"model.layers.{int(number)}.{known}.{kind}" if known else None
    part, _, kind = name.rpartition(".")
    known = architecture.shared.get(part)
    return f"{known}.{kind}" if known and kind in ("weight", "bias") else None


def config_of(architecture: Architecture, metadata: Metadata, file: GGUFFile) -> Config:
    """As Hugging Face has it. What shapes of tensors say again must agree."""
    hidden, heads = metadata.count(".embedding_length"), metadata.count(".attention.head_count")
    head_dim = metadata.count(".attention.key_length", hidden // heads)
    if metadata.count(".attention.value_length", head_dim) != head_dim:
        metadata.refuse(".attention.value_length", "differs from the size of keys", head_dim)
    embedding = file.tensors.get(_EMBEDDING)
    if embedding is None or len(embedding.shape) != 2:
        refuse(file.path, "the file has no table of embeddings", expected=f"a tensor '{_EMBEDDING}' of two dimensions")
    ours, theirs = architecture.eps
    config: Config = {
        "model_type": architecture.model_type, "architectures": [architecture.cls], "vocab_size": embedding.shape[0],
        "hidden_size": hidden, "intermediate_size": metadata.count(".feed_forward_length"),
        "num_hidden_layers": metadata.count(".block_count"), "num_attention_heads": heads,
        "num_key_value_heads": metadata.count(".attention.head_count_kv", heads), "head_dim": head_dim,
        "max_position_embeddings": metadata.count(".context_length"), "tie_word_embeddings": _HEAD not in file.tensors,
    }  # fmt: skip
    if ours:
        config[ours] = metadata.number(f".attention.{theirs}")
    if "blk.0.attn_q.bias" in file.tensors:
        config["attention_bias"] = True
    config |= rope_config(metadata, file, head_dim)
    config |= architecture.more(metadata, config)
    config |= _special_tokens(metadata)
    _check_shapes(config, file)
    return config


def _special_tokens(metadata: Metadata) -> Config:
    ids = {name: f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "eot", "eom", "padding")}
    known = {name: metadata.count(key, least=0) for name, key in ids.items() if key in metadata}
    ends = sorted({known[name] for name in ("eos", "eot", "eom") if name in known})
    single = {"bos_token_id": known.get("bos"), "pad_token_id": known.get("padding")}
    return {**single, "eos_token_id": ends[0] if len(ends) == 1 else ends or None}


def _check_shapes(config: Config, file: GGUFFile) -> None:
    """Before a model of these sizes is built."""
    numbers = [int(match[1]) for name in file.tensors if (match := _LAYER.fullmatch(name))]
    layers = max(numbers, default=-1) + 1
    if layers != config["num_hidden_layers"] or len(set(numbers)) != layers:
        expected = f"tensors of {config['num_hidden_layers']} layers, as the metadata says"
        refuse(
            file.path, "layers are missing, or there are too many", got=f"{len(set(numbers))} layers", expected=expected
        )
    hidden, width, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    queries = heads * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {
        _EMBEDDING: (config["vocab_size"], hidden), "attn_q": (queries, hidden), "attn_k": (keys, hidden),
        "attn_v": (keys, hidden), "attn_output": (hidden, queries), "attn_qkv": (queries + 2 * keys, hidden),
        "ffn_down": (hidden, width),
    }  # fmt: skip
    for name, tensor in file.tensors.items():
        match = _LAYER.fullmatch(name)
        key = name if match is None else match[2] if match[3] == "weight" else ""
        if key in shapes and tensor.shape != shapes[key]:
            expected = f"{list(shapes[key])}, as the metadata says"
            refuse(tensor.where, "has another shape", got=list(tensor.shape), expected=expected)
