"""The programs whose listings are kept in ``golden/``; ``python -m tests.npu_compiler.golden`` writes them anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from npu_compiler import CompiledProgram, compile
from torch import Tensor, nn

from .helpers import ir_of
from .pass_cases import Net

FOLDER = Path(__file__).parent / "golden"


class Residual(nn.Module):
    """A block of a ResNet with its head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)) + x)
        return self.head(F.adaptive_avg_pool2d(y, 1).flatten(1))


class CachedAttention(nn.Module):
    """One step of a decoder: grouped heads, an update of the cache, tied embeddings, RMS norms by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
        self.q, self.kv, self.scale = nn.Linear(8, 8), nn.Linear(8, 4), nn.Parameter(torch.ones(8))
        self.head.weight = self.embed.weight

    def forward(self, token: Tensor, at: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(token)
        y = self.scale * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))
        cache = cache.index_copy(2, at, self.kv(y).view(1, 1, 1, 4))
        keys = cache[:, :, None].expand(1, 1, 2, 6, 4).reshape(1, 2, 6, 4)
        mask = (torch.arange(6) <= at)[None]
        y = F.scaled_dot_product_attention(self.q(y).view(1, 1, 2, 4).transpose(1, 2), keys, keys, mask)
        return self.head(x + y.transpose(1, 2).reshape(1, 1, 8)), cache


def _mixed(x: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    """Integers, bools, halves and views."""
    wide = x.half()[:, ::2].float() * 3 + ids[:, None]
    found = wide.masked_fill(wide > 1, -1.0).topk(2, 1)
    return found[0], found[1] % 3, torch.cat([ids // 2, ids.flip(0)])


def _unet() -> nn.Module:
    return Net(
        lambda down, up, x: (
            F.interpolate(torch.cat([F.relu(down(x)), F.silu(x)], 1), scale_factor=2)
            + up(F.max_pool2d(x, 2)).repeat(1, 2, 4, 4)
        ),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 1),
    )


MODELS: dict[str, tuple[Callable[[], Any], tuple[Tensor, ...]]] = {
    "residual": (Residual, (torch.zeros(1, 8, 6, 6),)),
    "cached_attention": (
        CachedAttention,
        (torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), torch.zeros(1, 1, 6, 4)),
    ),
    "mixed": (lambda: _mixed, (torch.zeros(3, 8), torch.arange(3))),
    "unet": (_unet, (torch.zeros(1, 4, 4, 4),)),
}


def ir(name: str) -> dict[str, Any]:
    make, inputs = MODELS[name]
    return ir_of(make(), *inputs, name=name)


def program(name: str) -> CompiledProgram:
    return compile(ir(name))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for model in MODELS:
        (FOLDER / f"{model}.txt").write_text(program(model).text())
