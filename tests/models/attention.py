"""Attention written out in single operators."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .base import register_model


class _Attention(nn.Module):
    def __init__(self, dim: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def split(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        return x.view(batch, length, self.heads, self.head_dim).transpose(1, 2)

    def attend(self, x: Tensor, memory: Tensor) -> Tensor:
        q = self.split(self.q_proj(x))
        k = self.split(self.k_proj(memory))
        v = self.split(self.v_proj(memory))
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(self.head_dim), dim=-1)
        mixed = (weights @ v).transpose(1, 2).contiguous()
        return self.out_proj(mixed.view(x.shape))


@register_model("SelfAttention", [(16, 64)], ["attention"], "Basic self-attention")
class SelfAttention(_Attention):
    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, x)


@register_model("CrossAttention", [(16, 64), (32, 64)], ["attention", "multi_io"], "Cross-attention")
class CrossAttention(_Attention):
    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        return self.attend(query, memory)


@register_model("TransformerBlock", [(16, 64)], ["attention", "skip_connections"], "Complete transformer block")
class TransformerBlock(_Attention):
    def __init__(self, dim: int = 64, heads: int = 4) -> None:
        super().__init__(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attend(x, x))
        return self.norm2(x + self.ffn(x))
