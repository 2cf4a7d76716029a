"""Larger attention patterns: library layers, masks, rotary positions, low precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import randint, register_model


def _padded_inputs(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    keep = torch.ones(2, 10, dtype=torch.bool)
    keep[0, 7:] = False
    return torch.randn(2, 10, 32, generator=generator), keep


@register_model(
    "MaskedAttention",
    [],
    ["attention", "masked"],
    "Causal and padding masks, grouped key and value heads",
    make_inputs=_padded_inputs,
)
class MaskedAttention(nn.Module):
    def __init__(self, dim: int = 32, heads: int = 4, groups: int = 2) -> None:
        super().__init__()
        self.heads, self.groups, self.head_dim = heads, groups, dim // heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * groups * self.head_dim)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        batch, length, dim = x.shape
        q = self.q(x).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
        kv = self.kv(x).view(batch, length, 2, self.groups, self.head_dim).permute(2, 0, 3, 1, 4)
        k, v = kv.repeat_interleave(self.heads // self.groups, dim=2).unbind(0)
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        mask = causal & keep[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))


@register_model(
    "EncoderDecoder",
    [],
    ["attention", "multi_io"],
    "PyTorch's own encoder and decoder layers between an embedding and a head",
    make_inputs=lambda g: (randint(g, 40, 2, 9), randint(g, 40, 2, 5)),
)
class EncoderDecoder(nn.Module):
    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, dim)
        encoder = nn.TransformerEncoderLayer(dim, 4, 64, batch_first=True, norm_first=True)
        decoder = nn.TransformerDecoderLayer(dim, 4, 64, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(encoder, 2, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, 2, norm=nn.LayerNorm(dim))
        self.head = nn.Linear(dim, 40)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        length = target.shape[1]
        causal = torch.full((length, length), float("-inf"), device=target.device).triu(1)
        # Said, not detected: detecting it would compare values, which no export can follow.
        memory = self.encoder(self.embedding(source), is_causal=False)
        return self.head(self.decoder(self.embedding(target), memory, tgt_mask=causal, tgt_is_causal=True))


@register_model(
    "BFloat16Decoder",
    [],
    ["attention", "low_precision"],
    "Rotary positions in float32 inside a bfloat16 model",
    make_inputs=lambda g: (randint(g, 64, 1, 12),),
    dtype=torch.bfloat16,
)
class BFloat16Decoder(nn.Module):
    def __init__(self, dim: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.embedding = nn.Embedding(64, dim)
        self.norm = nn.RMSNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.gate = nn.Linear(dim, 4 * dim, bias=False)
        self.down = nn.Linear(2 * dim, dim, bias=False)

    def rotate(self, x: Tensor) -> Tensor:
        half = self.head_dim // 2
        rates = 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
        angles = torch.arange(x.shape[2], device=x.device, dtype=torch.float32)[:, None] * rates
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        first, second = x.split(half, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embedding(tokens)
        batch, length, dim = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, length, 3, self.heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, is_causal=True)
        x = x + mixed.transpose(1, 2).reshape(batch, length, dim)
        gate, value = self.gate(self.norm(x)).chunk(2, dim=-1)
        x = x + self.down(functional.silu(gate) * value)
        logits = x @ self.embedding.weight.t()
        return logits.float(), logits[:, -1].argmax(-1)
