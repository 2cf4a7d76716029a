"""Keyword arguments; dictionaries, dataclasses and nested inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .base import randint, register_model


def _keyword_inputs(generator: torch.Generator) -> dict[str, Any]:
    mask = torch.ones(2, 12, dtype=torch.int64)
    mask[1, 8:] = 0
    return {"input_ids": randint(generator, 50, 2, 12), "attention_mask": mask, "scale": 0.5}


@register_model(
    "KeywordEncoder",
    [],
    ["structured_io"],
    "Keyword arguments in, a dictionary out",
    make_inputs=_keyword_inputs,
)
class KeywordEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 24, padding_idx=0)
        self.norm = nn.LayerNorm(24, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, scale: float = 1.0) -> dict[str, Any]:
        hidden = self.norm(self.embedding(input_ids)) * scale
        if attention_mask is None:
            return {"pooled": hidden.mean(1), "states": [hidden], "lengths": None}
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
        return {"pooled": pooled, "states": [hidden, hidden * weights], "lengths": attention_mask.sum(1)}


@dataclass
class Detection:
    boxes: Tensor
    labels: Tensor
    scores: Tensor


def _pyramid_inputs(generator: torch.Generator) -> tuple[Any, ...]:
    maps = {f"p{i}": torch.randn(1, 8, 16 >> i, 16 >> i, generator=generator) for i in range(3)}
    return maps, (torch.tensor([32.0, 24.0]), 4)


@register_model("PyramidDetector", [], ["structured_io"], "Nested inputs, a dataclass out", make_inputs=_pyramid_inputs)
class PyramidDetector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.box = nn.Conv2d(8, 4, 1)
        self.score = nn.Conv2d(8, 5, 1)

    def forward(self, maps: dict[str, Tensor], image: tuple[Tensor, int]) -> Detection:
        size, count = image
        boxes = torch.cat([self.box(m).flatten(2) for m in maps.values()], dim=2)[0].t()
        scores = torch.cat([self.score(m).flatten(2) for m in maps.values()], dim=2)[0].t().softmax(-1)
        best, labels = scores.max(dim=-1)
        top, index = best.topk(count)
        return Detection(boxes.sigmoid()[index] * size.repeat(2), labels[index], top)
