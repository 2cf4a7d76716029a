"""Random graphs of views, maps, products, joins and updates: with all passes as without any, and as PyTorch."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from npu_compiler import compile
from torch import Tensor

from .helpers import OPTIONAL, as_numpy, assert_same, ir_of, module_of, only, results

Choose = random.Random


def _view(r: Choose, x: Tensor) -> Tensor:
    d = r.randrange(x.dim())
    kind = r.randrange(7)
    if kind == 0:
        return x.transpose(d, r.randrange(x.dim()))
    if kind == 1:
        start = r.randrange(x.shape[d])
        return x.narrow(d, start, r.randint(1, x.shape[d] - start))
    if kind == 2:
        return x.flip(d)
    if kind == 3:
        return x.flatten(d) if x.dim() > 1 else x.unsqueeze(0)
    if kind == 4 and x.dim() < 4:
        return x.unsqueeze(d).expand(*x.shape[:d], 2, *x.shape[d:])
    if kind == 5:
        return x.select(d, r.randrange(x.shape[d])) if x.dim() > 1 else x
    return x.reshape(-1, x.shape[d]) if x.shape[d] else x


def _map(r: Choose, x: Tensor) -> Tensor:
    functions: list[Callable[[Tensor], Tensor]] = [
        torch.relu, torch.tanh, torch.sigmoid, lambda t: t * 0.5, lambda t: t + 1, lambda t: t * t, torch.neg,
        lambda t: t.half().float(), lambda t: torch.where(t > 0, t, t * 0.1), lambda t: t.clamp(-1, 1),
    ]  # fmt: skip
    return r.choice(functions)(x)


def _pair(r: Choose, x: Tensor, y: Tensor) -> Tensor:
    kind = r.randrange(5)
    if kind == 0 and x.dim() > 1:
        return x.tanh() @ x.transpose(-1, -2)
    if kind == 1:
        return torch.cat([x, x * 2] if r.random() < 0.5 else [x, x.flip(0), x], r.randrange(x.dim()))
    if kind == 2:
        return x - x.mean(-1, keepdim=True)
    if kind == 3 and x.shape[0] > 1:
        return x.index_copy(0, torch.tensor([1, 0]), x[:2] * 0.5)
    try:
        shape = torch.broadcast_shapes(x.shape, y.shape)
    except RuntimeError:
        return x.softmax(-1)
    return x * 0.5 + y if len(shape) < 5 else x


def _draw(seed: int) -> Callable[..., tuple[Tensor, ...]]:
    """The same choices at every call."""

    def model(*inputs: Tensor) -> tuple[Tensor, ...]:
        r = random.Random(seed)
        known = list(inputs)
        for _ in range(r.randint(4, 14)):
            x, y = r.choice(known), r.choice(known[-3:])
            made = r.choice([_view, _map, _map])(r, x) if r.random() < 0.65 else _pair(r, x, y)
            if 0 < made.numel() <= 2000 and made.dim() > 0:
                known.append(made)
        return tuple(r.sample(known[len(inputs) :], min(len(known) - len(inputs), r.randint(1, 3))))

    return model


def check(seed: int) -> None:
    model = module_of(_draw(seed))
    g = torch.Generator().manual_seed(seed)
    inputs = (torch.randn(3, 4, generator=g), torch.randn(2, 3, 4, generator=g), torch.randn(4, generator=g))
    want = [as_numpy(x) for x in model(*inputs)]
    ir = ir_of(model, *inputs)
    for program in (only(ir), compile(ir), compile(ir, disable=set(random.Random(seed).sample(sorted(OPTIONAL), 4)))):
        assert_same(results(program, model, inputs)[: len(want)], want, 2e-3)


@pytest.mark.parametrize("part", range(6))
def test_random_graphs(part: int) -> None:
    for seed in range(part, 90, 6):
        check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
def test_many_random_graphs(part: int) -> None:
    for seed in range(1000 + part, 3000, 6):
        check(seed)
