"""One weight used in several places."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import randint, register_model


@register_model("RecurrentUnroll", [(32,)], ["shared_weights"], "Repeated application of same cell")
class RecurrentUnroll(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(5):
            x = torch.tanh(self.cell(x))
        return x


@register_model(
    "WeightTying",
    [(16,)],
    ["shared_weights"],
    "Embedding-output weight sharing",
    make_inputs=lambda generator: (randint(generator, 100, 1, 16),),
)
class WeightTying(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 64)
        self.hidden1 = nn.Linear(64, 64)
        self.hidden2 = nn.Linear(64, 64)
        self.output = nn.Linear(64, 100)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = torch.relu(self.hidden1(self.embedding(tokens)))
        return self.output(self.hidden2(x))
