"""Any architecture of transformers made tiny: its configuration's defaults, with sizes replaced by rule.

Which types can be made so, and why the others cannot, is in ``transformers_types.py``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from .harness import ZooEntry
from .huggingface_base import VOCABULARY, tokens

_MAXIMA: tuple[tuple[str, int], ...] = (
    (r"(num_)?(\w+_)?(hidden_|encoder_|decoder_|transformer_)?(layers|layer|blocks|depth)|n_layers?|num_stages", 2),
    (r"(num_)?(\w+_)?(attention_)?heads|n_heads?", 4),
    (r"\w*(key_value_heads|kv_heads|key_heads)", 2),
    (r"\w*value_heads", 4),
    (r"\w*head_dim|d_kv|\w*rope_dim|rotary_dim", 8),
    (r"\w*lora_rank|\w*_rank", 16),
    (r"moe_intermediate_size|expert_ffn_hidden_size|moe_ffn_hidden_size", 32),
    (r"\w*(intermediate_size|ffn_dim|ffn_size|ffn_hidden_size|mlp_dim|d_ff|d_inner|n_inner|intermediate_dim)\w*", 64),
    (
        r"\w*(hidden_size|d_model|n_embd|embed_dim|embedding_size|embedding_dim|hidden_dim|projection_dim|output_dim|lru_width)",
        32,
    ),
    (r"dim|width|bottleneck_size|intra_bottleneck_size|word_embed_proj_dim|conv_dim|z_dim|latent_dim|codebook_dim", 32),
    (r"\w*codebook_size|\w*num_codes", 64),
    (r"(\w+_)?vocab_size(_\w+)?|n_vocab", VOCABULARY),
    (r"\w*(max_position_embeddings|n_positions|max_\w*positions|n_ctx|max_seq_len|max_length|max_sequence_length)", 64),
    (r"\w*(num_experts|local_experts|routed_experts|n_experts|num_expert)", 4),
    (r"\w*(experts_per_tok|top_k|topk|experts_per_token|moe_k)", 2),
    (r"n_group|topk_group|num_expert_group", 1),
    (r"\w*sliding_window|local_attention|attention_window_size|attention_chunk_size", 8),
    (r"\w*(image_size|input_size)", 32),
    (r"patch_size", 8),
    (r"\w*(state_size|d_state|ssm_state_size)", 8),
    (r"\w*chunk_size", 8),
    (r"num_queries|num_query_tokens|num_latents", 5),
    (r"num_mel_bins|feature_size", 16),
    (r"mamba_d_head|mamba_headdim|head_size", 8),
    (r"num_labels|num_frames|frames_per_clip", 4),
)
"""Integers whose whole name matches are at most this; the first that matches counts."""
_FIRST_TOKEN = 80
_LISTS = {"depths": 1, "layers": 1, "blocks": 1, "layer": 1, "heads": 2, "frames": 4}


def shrink(config: Any) -> Any:
    """The configuration with all of its sizes made small, in place."""
    from transformers import PreTrainedConfig

    special = iter(range(_FIRST_TOKEN, VOCABULARY))
    for name, value in list(vars(config).items()):
        if isinstance(value, PreTrainedConfig):
            shrink(value)
        elif name.startswith("_"):
            continue
        elif name.endswith(("_token_id", "_token_index", "_token")) and isinstance(value, int) and value >= VOCABULARY:
            setattr(config, name, next(special))
        elif isinstance(value, int) and not isinstance(value, bool):
            setattr(config, name, _smaller(name, value))
        elif isinstance(value, (list, tuple)) and value and all(type(v) is int for v in value):
            setattr(config, name, type(value)(_smaller_in_list(name, v) for v in value))
    layers = getattr(config, "num_hidden_layers", None)
    types = getattr(config, "layer_types", None)
    if isinstance(types, list) and isinstance(layers, int) and "layer_types" in vars(config):
        config.layer_types = _one_of_each(types, layers)
    rope = getattr(config, "rope_parameters", None)
    if isinstance(rope, dict) and "mrope_section" in rope:
        rope["mrope_section"] = [2, 1, 1]  # half of the width of a head
    for name in ("use_cache", "use_timm_backbone", "output_attentions"):
        if hasattr(config, name) and isinstance(getattr(config, name), bool):
            setattr(config, name, False)
    return config


def _smaller(name: str, value: int) -> int:
    for pattern, most in _MAXIMA:
        if re.fullmatch(pattern, name):
            return min(value, most)
    return value


def _smaller_in_list(name: str, value: int) -> int:
    for ending, most in _LISTS.items():
        if name.endswith(ending):
            return min(value, most)
    if re.search(r"(sizes|dims?|channels|dim)$", name):
        return max(8, value // 64 * 8) if value > 8 else value
    return _smaller(name, value)


def _one_of_each(types: list[str], count: int) -> list[str]:
    distinct = list(dict.fromkeys(types))
    return (distinct + [types[-1]] * count)[:count] if len(distinct) <= count else distinct[:count]


_HEADS = ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "MASKED_LM", "IMAGE_CLASSIFICATION", "CTC", "AUDIO_CLASSIFICATION")


def model_class(model_type: str) -> type[nn.Module]:
    """With a head if the type has one for a usual task, else the bare model."""
    import transformers
    from transformers.models.auto import modeling_auto

    tables = [f"MODEL_FOR_{head}_MAPPING_NAMES" for head in _HEADS]
    for table in [*tables, "MODEL_MAPPING_NAMES"]:
        name = getattr(modeling_auto, table).get(model_type)
        if name is not None:
            return getattr(transformers, name if isinstance(name, str) else name[0])
    raise LookupError(f"transformers has no model for {model_type!r}")


def tiny_config(model_type: str, settings: dict[str, Any]) -> Any:
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    del transformers
    config = shrink(CONFIG_MAPPING[model_type]())
    for name, value in settings.items():
        *path, last = name.split(".")
        target = config
        for part in path:
            target = getattr(target, part)
        setattr(target, last, value)
    return config


def build(model_type: str, settings: dict[str, Any]) -> nn.Module:
    model = model_class(model_type)(tiny_config(model_type, settings))
    if getattr(model, "_can_set_experts_implementation", lambda: False)():
        model.set_experts_implementation("batched_mm")  # the default sorts tokens by expert, which no program can hold
    return model


def _of(config: Any, *names: str, default: int) -> Any:
    for name in names:
        for holder in (config, getattr(config, "vision_config", None), getattr(config, "backbone_config", None)):
            value = getattr(holder, name, None)
            if value is not None:
                return value
    return default


def _picture(g: torch.Generator, config: Any) -> torch.Tensor:
    size = _of(config, "image_size", default=64)
    height, width = (
        (size, size) if isinstance(size, int) else list(size)[-2:] if not isinstance(size, dict) else (32, 32)
    )
    channels = _of(config, "num_channels", "in_channels", default=3)
    frames = getattr(config, "num_frames", None)
    return torch.randn(*((1,) if frames is None else (1, frames)), channels, height, width, generator=g)


_MAKERS: dict[str, Callable[[torch.Generator, Any], torch.Tensor]] = {
    "input_ids": lambda g, c: tokens(g, 2, 12) % (_FIRST_TOKEN - 3) + 3,
    "decoder_input_ids": lambda g, c: tokens(g, 2, 7) % (_FIRST_TOKEN - 3) + 3,
    "attention_mask": lambda g, c: torch.ones(2, 12, dtype=torch.int64).index_fill(1, torch.tensor([11]), 0),
    "pixel_values": _picture,
    "input_values": lambda g, c: torch.randn(1, 1600, generator=g),
    "input_features": lambda g, c: torch.randn(
        1, _of(c, "num_mel_bins", "input_feat_per_channel", default=16), 40, generator=g
    ),
    "past_values": lambda g, c: torch.randn(1, c.context_length, getattr(c, "num_input_channels", 1), generator=g),
    "pixel_values_videos": lambda g, c: torch.randn(1, 4, 3, 32, 32, generator=g),
    "bbox": lambda g, c: torch.tensor([1, 2, 30, 40]).repeat(2, 12, 1),
}


def inputs(model_type: str, settings: dict[str, Any], g: torch.Generator) -> dict[str, Any]:
    """By the names in the signature of ``forward``: the main input, and whatever has no default."""
    config = tiny_config(model_type, settings)
    cls = model_class(model_type)
    parameters = inspect.signature(cls.forward).parameters
    main = getattr(cls, "main_input_name", "input_ids")
    names = {main: None}
    names |= {
        n: None
        for n, p in parameters.items()
        if n != "self" and p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD
    }
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in parameters:
        names["decoder_input_ids"] = None
        if main == "input_ids" and "attention_mask" in parameters:
            names["attention_mask"] = None
    if main == "input_ids" and "attention_mask" in parameters and "bbox" in parameters:
        names["bbox"] = None
    unknown = [n for n in names if n not in _MAKERS]
    if unknown:
        raise LookupError(f"forward of {cls.__name__} takes {unknown}")
    made = {n: _MAKERS[n](g, config) for n in names}
    return {n: t[: len(made[main])] for n, t in made.items()}


def tiny(model_type: str, **settings: Any) -> ZooEntry:
    """Settings are attributes of the configuration that the rules do not get right; a dot leads into an inner one."""
    return ZooEntry(model_type, partial(build, model_type, settings), partial(inputs, model_type, settings))


def all_types() -> list[str]:
    """The types that ``AutoModel`` knows."""
    return list(importlib.import_module("transformers.models.auto.modeling_auto").MODEL_MAPPING_NAMES)
