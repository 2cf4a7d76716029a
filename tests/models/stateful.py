"""Buffers that a forward pass reads and writes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import register_model


@register_model("RunningStatistics", [(24,)], ["stateful"], "Buffers updated in place in evaluation mode")
class RunningStatistics(nn.Module):
    mean: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(24))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.proj = nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return self.proj(x - self.mean) / self.count


@register_model(
    "RingCache",
    [],
    ["stateful", "attention"],
    "A key cache written at a position given at run time",
    make_inputs=lambda g: (torch.randn(1, 2, 16, generator=g), torch.tensor([3, 4])),
)
class RingCache(nn.Module):
    keys: Tensor
    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(1, 8, 16))
        # Not in any checkpoint: it must survive saving and loading inside the IR.
        self.register_buffer("frequencies", 1.0 / 10.0 ** (torch.arange(16) / 16), persistent=False)
        self.proj = nn.Linear(16, 16)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        keys = self.proj(x) * torch.cos(position[:, None] * self.frequencies)
        self.keys[:, position] = keys
        visible = torch.arange(8, device=x.device)[None, :] <= position[:, None]
        scores = (x @ self.keys.transpose(1, 2)).masked_fill(~visible, float("-inf"))
        return scores.softmax(-1) @ self.keys
