"""Weights for tests: random, the same each time, and never such that a wrong result could pass for right."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def build_seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Build a model whose weights follow from ``seed``, without touching the caller's random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
        randomize(model)
    return model.eval()


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Replace what constructors leave constant: norm weights, zero biases, batch-norm statistics.

    A swapped, dropped or ignored weight of ones or zeros would change nothing.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point() and _is_constant(parameter):
            parameter.copy_(_jitter(parameter))
    for name, buffer in model.named_buffers():
        last = name.rpartition(".")[2]
        if last == "running_mean":
            buffer.copy_(0.1 * torch.randn_like(buffer))
        elif last == "running_var":
            buffer.copy_(torch.empty_like(buffer).uniform_(0.5, 1.5))
        elif last == "num_batches_tracked":
            buffer.fill_(7)


def _is_constant(t: Tensor) -> bool:
    return t.numel() > 0 and bool((t == t.flatten()[0]).all())


def _jitter(t: Tensor) -> Tensor:
    value = float(t.flatten()[0])
    if abs(value) < 0.05:  # zeros, and layer scales so small that their branch would vanish
        return 0.1 * torch.randn_like(t)
    return value * torch.empty_like(t).uniform_(0.5, 1.5)
