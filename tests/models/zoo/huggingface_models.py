"""Hugging Face architectures in tiny configurations: two layers, 32 wide, random weights.

A line per architecture. What cannot be extracted is in ``unexportable.py``, with its reason.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from .harness import ZooEntry
from .huggingface_base import (
    BART_LIKE,
    DECODER,
    EXPERTS,
    GPT2_LIKE,
    SPEECH,
    T5_LIKE,
    TWO_TOWERS,
    VISION,
    VOCABULARY,
    WHISPER,
    construct,
    decoder,
    encoder,
    filter_bank,
    ids_only,
    other,
    picture,
    picture_and_text,
    picture_with_noise,
    spectrogram,
    speech,
    static_cache,
    text,
    tokens,
    transcription,
    translation,
    vision,
    with_cache,
)

_LLAMA3_ROPE: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_YARN_ROPE: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}

DECODERS = [
    decoder("Llama"),
    decoder("Llama", name="Llama, scaled rotary positions", rope_parameters=_LLAMA3_ROPE),
    decoder("Qwen2"),
    decoder("Qwen2", name="Qwen2, YaRN rotary positions", rope_parameters=_YARN_ROPE),
    decoder("Qwen2", name="Qwen2, tied embeddings", tie_word_embeddings=True),
    decoder("Qwen3", head_dim=8),
    decoder("Mistral", sliding_window=8),
    decoder("Gemma", head_dim=8),
    decoder("Gemma2", head_dim=8, sliding_window=8),
    decoder("Gemma3", config="Gemma3TextConfig", head_dim=8, sliding_window=8),
    decoder("Phi", partial_rotary_factor=0.5),
    decoder("Phi3"),
    decoder("StableLm"),
    decoder("Olmo"),
    decoder("Olmo2"),
    decoder("Cohere"),
    decoder("Starcoder2"),
    decoder("Granite"),
    decoder("SmolLM3"),
    decoder("Exaone4", sliding_window=8, head_dim=8),
    decoder("Glm", head_dim=8),
    decoder("GPTNeoX"),
    decoder("OPT", ffn_dim=64, word_embed_proj_dim=32),
    decoder("Falcon", new_decoder_architecture=True, num_kv_heads=2),
    decoder("Falcon", name="Falcon, ALiBi", alibi=True, new_decoder_architecture=False, multi_query=True),
    decoder("Bloom", n_head=4, n_layer=2),
    decoder("GPTJ", rotary_dim=4, **GPT2_LIKE),
    other("GPT-2", "GPT2LMHeadModel", "GPT2Config", ids_only, **GPT2_LIKE),
    other("GPTBigCode", "GPTBigCodeForCausalLM", "GPTBigCodeConfig", ids_only, **GPT2_LIKE),
    other(
        "XLNet", "XLNetLMHeadModel", "XLNetConfig", text,
        vocab_size=VOCABULARY, d_model=32, n_layer=2, n_head=4, d_inner=64,
    ),
    *with_cache("Llama"),
    *with_cache("Qwen2"),
    *with_cache("Qwen3", head_dim=8),
    *with_cache("Phi3"),
    # In eager mode the mask is left out where it hides nothing; a trace cannot look, and adds it.
    ZooEntry(
        "Llama, static cache",
        partial(construct, "LlamaForCausalLM", "LlamaConfig", {**DECODER, "use_cache": True}),
        static_cache,
        exact=False,
    ),
]  # fmt: skip
STATE_SPACE = [
    decoder("Mamba", state_size=8),
    decoder("FalconMamba", state_size=8),
    decoder("Mamba2", state_size=8, num_heads=4, head_dim=16, n_groups=1, chunk_size=8),
    decoder(
        "Bamba", attn_layer_indices=[1], mamba_n_heads=4, mamba_d_head=16, mamba_n_groups=1,
        mamba_d_state=8, mamba_chunk_size=8,
    ),
    decoder(
        "RecurrentGemma", lru_width=32, attention_window_size=8, block_types=["recurrent", "attention"],
        head_dim=8,
    ),
]  # fmt: skip
EXPERT_MIXTURES = [
    decoder("Mixtral", num_local_experts=4, num_experts_per_tok=2),
    decoder("Qwen2Moe", shared_expert_intermediate_size=64, **EXPERTS),
    decoder("Qwen3Moe", head_dim=8, **EXPERTS),
    decoder("Olmoe", **EXPERTS),
    decoder("Phimoe", num_local_experts=4),
    decoder("GptOss", head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=8),
    decoder(
        "Llama4", config="Llama4TextConfig", num_local_experts=4, intermediate_size_mlp=64, head_dim=8
    ),
    decoder(
        "DeepseekV3", num_key_value_heads=4, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8,
        qk_nope_head_dim=8, v_head_dim=8, n_routed_experts=4, num_experts_per_tok=2, n_group=2,
        topk_group=1, first_k_dense_replace=1, moe_intermediate_size=48,
    ),
    decoder(
        "Jamba", num_experts=4, num_experts_per_tok=2, attn_layer_period=2, attn_layer_offset=1,
        expert_layer_period=2, expert_layer_offset=1, mamba_d_state=8, use_mamba_kernels=False,
    ),
]  # fmt: skip
ENCODERS = [
    encoder("Bert"),
    encoder("Roberta"),
    encoder("XLMRoberta"),
    encoder("DistilBert", dim=32, hidden_dim=64, n_layers=2, n_heads=4),
    encoder("Albert", embedding_size=16),
    encoder("Electra", embedding_size=16),
    encoder("MPNet"),
    encoder("DebertaV2", relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"]),
    encoder("ModernBert", local_attention=8, global_attn_every_n_layers=2),
    encoder("BigBird", attention_type="original_full"),
    encoder("RoFormer", embedding_size=32),
    encoder("ConvBert", embedding_size=32),
    encoder("LayoutLM"),
    encoder("MobileBert", embedding_size=32, intra_bottleneck_size=32),
    encoder("SqueezeBert", embedding_size=32),
    replace(other("FNet", "FNetForMaskedLM", "FNetConfig", ids_only, **DECODER), dtypes=(torch.float32,)),
]
ENCODER_DECODERS = [
    other("T5", "T5ForConditionalGeneration", "T5Config", translation, **T5_LIKE),
    other("LongT5", "LongT5ForConditionalGeneration", "LongT5Config", translation, **T5_LIKE, local_radius=4),
    other("BART", "BartForConditionalGeneration", "BartConfig", translation, **BART_LIKE),
    other("Marian", "MarianMTModel", "MarianConfig", translation, **BART_LIKE),
    other("Pegasus", "PegasusForConditionalGeneration", "PegasusConfig", translation, **BART_LIKE),
    other("Whisper", "WhisperForConditionalGeneration", "WhisperConfig", transcription, **WHISPER),
]
_PYRAMID: dict[str, Any] = {
    "hidden_sizes": [16, 32],
    "depths": [1, 1],
    "num_encoder_blocks": 2,
    "strides": [4, 2],
}
VISION_MODELS = [
    vision("ViT", **VISION),
    vision("DeiT", **VISION),
    vision("Dinov2", **VISION),
    vision("Dinov2WithRegisters", **VISION),
    vision("Beit", use_relative_position_bias=True, **VISION),
    vision(
        "Swin", image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=2
    ),
    vision("ConvNext", hidden_sizes=[16, 32], depths=[2, 2], num_stages=2),
    vision(
        "Segformer", num_attention_heads=[2, 4], sr_ratios=[4, 2], patch_sizes=[7, 3], mlp_ratios=[2, 2],
        decoder_hidden_size=32, **_PYRAMID,
    ),
    vision("PoolFormer", patch_sizes=[7, 3], padding=[2, 1], mlp_ratio=2.0, **_PYRAMID),
    vision("ResNet", embedding_size=16, hidden_sizes=[32, 64], depths=[2, 1]),
    vision("MobileNetV2", image_size=32, depth_multiplier=0.35),
    vision(
        "MobileViT", image_size=32, hidden_sizes=[16, 24, 32], num_attention_heads=4, patch_size=2,
        neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32],
    ),
    other("ViT-MAE", "ViTMAEModel", "ViTMAEConfig", picture_with_noise, **VISION),
    other("CLIP", "CLIPModel", "CLIPConfig", picture_and_text, **TWO_TOWERS),
    other("SigLIP", "SiglipModel", "SiglipConfig", picture_and_text, **TWO_TOWERS),
    other(
        "DETR", "DetrForObjectDetection", "DetrConfig", partial(picture, size=64), use_timm_backbone=False,
        d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4,
        num_queries=5, encoder_ffn_dim=32, decoder_ffn_dim=32,
    ),
]  # fmt: skip
AUDIO = [
    other("Wav2Vec2", "Wav2Vec2ForCTC", "Wav2Vec2Config", speech, **SPEECH),
    other("HuBERT", "HubertForCTC", "HubertConfig", speech, **SPEECH),
    other("WavLM", "WavLMForCTC", "WavLMConfig", speech, **SPEECH),
    other("Whisper encoder", "WhisperModel", "WhisperConfig", spectrogram, "encoder", **WHISPER),
    other(
        "AST", "ASTForAudioClassification", "ASTConfig", filter_bank,
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, num_mel_bins=16,
        max_length=40,
    ),
]  # fmt: skip
ENTRIES = [
    *DECODERS,
    *STATE_SPACE,
    *EXPERT_MIXTURES,
    *ENCODERS,
    *ENCODER_DECODERS,
    *VISION_MODELS,
    *AUDIO,
]


def _long_text(g: torch.Generator) -> dict[str, torch.Tensor]:
    return {"input_ids": tokens(g, 1, 64)}


def _full(name: str, model: str, config: str, size: int | None = None, **settings: Any) -> ZooEntry:
    inputs = _long_text if size is None else partial(picture, size=size)
    return ZooEntry(name, partial(construct, model, config, settings), inputs, slow=True)


# Tiny too, but a thousand nodes of unrolled loops.
_UNROLLED = [
    replace(decoder(
        "Qwen3Next", head_dim=8, linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=8,
        linear_value_head_dim=8, shared_expert_intermediate_size=32,
        layer_types=["linear_attention", "full_attention"], **EXPERTS,
    ), slow=True),
]  # fmt: skip
# Each configuration's defaults are the published base model.
FULL_SIZE = [
    *_UNROLLED,
    _full("BERT base", "BertForMaskedLM", "BertConfig"),
    _full("DistilBERT base", "DistilBertForMaskedLM", "DistilBertConfig"),
    _full("GPT-2 small", "GPT2LMHeadModel", "GPT2Config", use_cache=False),
    _full("ViT base", "ViTForImageClassification", "ViTConfig", 224),
    _full("ConvNeXt tiny", "ConvNextForImageClassification", "ConvNextConfig", 224),
    _full(
        "Qwen2.5 0.5B", "Qwen2ForCausalLM", "Qwen2Config", use_cache=False, vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
        tie_word_embeddings=True,
    ),
]  # fmt: skip
