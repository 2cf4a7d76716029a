"""The models that are measured: true architectures, without weights or with seeded random ones."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.models.zoo.torchvision_compat import declare_operators

declare_operators()  # transformers imports torchvision where it is installed


def qwen2_5_1_5b(device: str = "meta") -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        hidden_size=1536,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        intermediate_size=8960,
        vocab_size=151936,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        max_position_embeddings=32768,
        rms_norm_eps=1e-6,
    )
    with torch.device(device):
        model = Qwen2ForCausalLM(config).eval().to(torch.bfloat16)
        return model, (torch.zeros(1, 128, dtype=torch.int64),)


def llama_70b(layers: int = 80) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=8192,
        num_hidden_layers=layers,
        num_attention_heads=64,
        num_key_value_heads=8,
        intermediate_size=28672,
        vocab_size=128256,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
        max_position_embeddings=8192,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config).eval().to(torch.bfloat16)
        return model, (torch.zeros(1, 128, dtype=torch.int64),)


def resnet50() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    from torchvision.models import resnet50 as build

    model = build().eval()
    randomize_batch_norm(model)
    return model, (torch.randn(1, 3, 224, 224),)


def bert_base() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    return BertModel(BertConfig()).eval(), (torch.randint(0, 30000, (1, 128)),)


def randomize_batch_norm(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
