"""Choices made while the model runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import register_model


@register_model("Conditional", [(16,)], ["control_flow"], "torch.cond on a value; each branch has weights of its own")
class Conditional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(16, 16)
        self.narrow = nn.Linear(16, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        def positive(x: Tensor) -> Tensor:
            return torch.relu(self.wide(x))

        def negative(x: Tensor) -> Tensor:
            return torch.tanh(self.narrow(x)) - 1

        return torch.cond(x.sum() > 0, positive, negative, (x,)) + x


@register_model(
    "MixtureOfExperts", [(12, 32)], ["control_flow"], "Top-2 routing: tokens gathered, weighted and scattered"
)
class MixtureOfExperts(nn.Module):
    def __init__(self, dim: int = 32, experts: int = 4) -> None:
        super().__init__()
        self.router = nn.Linear(dim, experts, bias=False)
        self.up = nn.Parameter(torch.randn(experts, dim, 2 * dim) / dim**0.5)
        self.down = nn.Parameter(torch.randn(experts, 2 * dim, dim) / dim**0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = x.flatten(0, 1)
        weights, chosen = self.router(tokens).softmax(-1).topk(2, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        hidden = torch.nn.functional.silu(torch.einsum("td,tkdh->tkh", tokens, self.up[chosen]))
        out = torch.einsum("tkh,tkhd,tk->td", hidden, self.down[chosen], weights)
        load = torch.zeros(self.router.out_features, device=x.device)
        load = load.scatter_add(0, chosen.flatten(), torch.ones_like(chosen.flatten(), dtype=load.dtype))
        return out.view_as(x), load
