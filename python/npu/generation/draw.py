"""Chooses tokens from scores, as a module to compile. The rules are those of ``sampling.probabilities``."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_ir import IR, extract_ir

from npu.generation.sampling import Rules

__all__ = ["Draw", "extract_draw"]

_BLOCK = 512  # tokens per block sum, which is searched before the tokens themselves
_LEAST = -104.0  # the exp of anything less is 0 in float32
_HALVINGS = 31  # bisections of that range, after which float32 cannot distinguish the ends


class Draw(nn.Module):
    """Chooses a token for each row. Rows are not sorted: bisection finds the lowest score that top-p keeps."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.rules = rules

    def forward(
        self,
        logits: Tensor,
        seen: Tensor | None,
        temperature: Tensor | None,
        top_p: Tensor | None,
        penalty: Tensor | None,
        uniform: Tensor | None,
    ) -> tuple[Tensor, ...]:
        scores = logits.float()
        if seen is not None and penalty is not None:
            scores = torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
        likeliest = scores.argmax(-1, keepdim=True)  # NaN wins
        top = scores.gather(1, likeliest)
        if temperature is None or uniform is None:
            token, finite = likeliest, top.isfinite()
        else:
            token, finite = self._drawn((scores - top) / temperature, top_p, uniform)
        results = (token[:, 0], finite[:, 0])
        return results if seen is None else (*results, seen.scatter(1, token, True))

    def _drawn(self, scores: Tensor, top_p: Tensor | None, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """``scores`` are at most 0."""
        weights = scores.exp()
        finite = weights.sum(-1, keepdim=True).isfinite()
        if self.rules.top_k:
            largest = scores.topk(self.rules.top_k, -1)[0]
            weights = torch.where(scores < largest[:, -1:], 0.0, weights)
            if top_p is not None:
                weights = _nucleus(scores, weights, top_p, lambda wanted: _edge_of_few(scores, largest, wanted))
        elif top_p is not None:
            weights = _nucleus(scores, weights, top_p, lambda wanted: _edge(scores, weights, wanted))
        return _index_reaching(weights, lambda total: uniform * total, torch.gt), finite


Edge = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Given the total weight wanted: which tokens have the lowest score that is needed, and which have a higher one."""


def _nucleus(scores: Tensor, weights: Tensor, top_p: Tensor, edge: Edge) -> Tensor:
    """The weights of the fewest tokens that reach ``top_p`` of the total. Of equal scores, the first ones are kept."""
    wanted = top_p * weights.sum(-1, keepdim=True)
    at_edge, above = edge(wanted)
    missing = wanted - torch.where(above, weights, 0.0).sum(-1, keepdim=True)
    last = _index_reaching(torch.where(at_edge, weights, 0.0), lambda _: missing, torch.ge)
    first_ones = torch.arange(scores.shape[1]) <= last
    return torch.where(above | at_edge & first_ones, weights, 0.0)


def _edge_of_few(scores: Tensor, largest: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest score needed, if it is among ``largest``, which is sorted."""
    before = F.pad(largest.exp().cumsum(-1)[:, :-1], (1, 0))
    least = torch.where(before < wanted, largest, 0.0).amin(-1, keepdim=True)
    return scores == least, scores > least


def _edge(scores: Tensor, weights: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Bisects to the lowest score needed, until scores in the interval differ only by rounding."""
    low, high = torch.full_like(wanted, _LEAST), torch.zeros_like(wanted)
    for _ in range(_HALVINGS):
        middle = (low + high) * 0.5
        enough = torch.where(scores > middle, weights, 0.0).sum(-1, keepdim=True) >= wanted
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return (scores > low) & (scores <= high), scores > high


def _index_reaching(
    weights: Tensor, target: Callable[[Tensor], Tensor], reached: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The index, [rows, 1], at which the running sum of weights reaches the target: the block, then the index in it."""
    blocks = F.pad(weights, (0, -weights.shape[1] % _BLOCK)).unflatten(1, (-1, _BLOCK))
    sums = blocks.sum(-1)
    until = sums.cumsum(-1)
    wanted = target(until[:, -1:])
    block = _first(reached(until, wanted), sums)
    inside = blocks.gather(1, block[:, :, None].expand(-1, -1, _BLOCK))[:, 0]
    wanted = wanted - (until.gather(1, block) - sums.gather(1, block))
    return block * _BLOCK + _first(reached(inside.cumsum(-1), wanted), inside)


def _first(hits: Tensor, weights: Tensor) -> Tensor:
    """The first hit with a weight above 0. If rounding leaves none, the last index with such a weight."""
    count = weights.shape[1]
    indices, positive = torch.arange(count), weights > 0
    first = torch.where(hits & positive, indices, count).amin(-1, keepdim=True)
    return torch.minimum(first, torch.where(positive, indices, 0).amax(-1, keepdim=True))


def extract_draw(rules: Rules, batch: int, vocabulary: int, dtype: str) -> IR:
    number = torch.ones(1, 1)
    inputs = {
        "logits": torch.zeros(batch, vocabulary, dtype=getattr(torch, dtype)),
        "seen": torch.zeros(batch, vocabulary, dtype=torch.bool) if rules.penalty else None,
        "temperature": None if rules.greedy else number,
        "top_p": number if rules.top_p else None,
        "penalty": number if rules.penalty else None,
        "uniform": None if rules.greedy else torch.zeros(batch, 1),
    }
    names = ["token", "finite", *(["now_seen"] if rules.penalty else [])]
    return extract_ir(Draw(rules).eval(), (), inputs, model_name=rules.name, output_names=names)
