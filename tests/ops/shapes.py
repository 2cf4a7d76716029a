"""Views, reductions, indexing and makers of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .making import b, case, f, i, module, special


def _views() -> None:
    x = f(2, 3, 4, 5)
    table: dict[str, Callable[[Tensor], Any]] = {
        "view": lambda x: x.view(6, -1),
        "reshape after transpose": lambda x: x.transpose(1, 2).reshape(2, 12, 5),
        "flatten": lambda x: x.flatten(1, 2),
        "unflatten": lambda x: x.unflatten(2, (2, -1)),
        "transpose": lambda x: x.transpose(-2, -1),
        "permute": lambda x: x.permute(0, 2, 3, 1),
        "unsqueeze": lambda x: x.unsqueeze(-1),
        "squeeze": lambda x: x[:1].squeeze(0),
        "squeeze all": lambda x: x[:1, :, :1].squeeze(),
        "expand": lambda x: x[:, :1].expand(-1, 7, -1, -1),
        "select": lambda x: x[:, -1],
        "slice": lambda x: x[:, 1:, ::2, -3:],
        "narrow": lambda x: x.narrow(3, 1, 3),
        "split": lambda x: x.split(2, 3),
        "split sizes": lambda x: x.split([1, 2], 1),
        "chunk": lambda x: x.chunk(3, 3),
        "unbind": lambda x: x.unbind(1),
        "flip": lambda x: x.flip(1, 3),
        "unfold": lambda x: x.unfold(3, 3, 2),
        "movedim": lambda x: x.movedim(0, 2),
        "diagonal": lambda x: x.diagonal(1, 2, 3),
        "roll": lambda x: x.roll((1, -2), (1, 3)),
        "roll flat": lambda x: x.roll(5),
        "repeat": lambda x: x.repeat(2, 1, 3, 1),
        "repeat more": lambda x: x[0, 0].repeat(2, 1, 2),
        "tile": lambda x: x.tile(2, 2),
        "repeat_interleave": lambda x: x.repeat_interleave(3, 1),
        "contiguous": lambda x: x.transpose(1, 2).contiguous() * 2,
        "cat of slices": lambda x: torch.cat([x[..., 2:], -x[..., :2]], -1),
        "stack": lambda x: torch.stack([x, x * 2, x + 1], 1),
        "channel_shuffle": lambda x: F.channel_shuffle(x.permute(0, 2, 1, 3), 2),
        "hstack": lambda x: torch.hstack([x, x]),
        "transpose of extent 1": lambda x: x[:, :1].transpose(0, 2),
        "view and relu": lambda x: F.relu(x.transpose(1, 3)).reshape(2, -1),
        "diff": lambda x: x.diff(),
        "outputs shared": lambda x: (x + 1, (x + 1).view(-1)),
        "identity": lambda x: x,
        "input twice": lambda x: (x, x.view(-1)),
        "cat used twice": lambda x: (lambda y: torch.cat([y, torch.cat([y, x], 1)], 1))(x.relu()),
    }
    for name, function in table.items():
        case(name, function, x)
    case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), f(2, 8, 3, 5))
    case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), f(2, 2, 4, 6))
    case("cat", lambda x, y, z: torch.cat([x, y, z], 1), f(2, 3, 5), f(2, 1, 5), f(2, 4, 5))
    case("cat of made things", lambda x, y: torch.cat([x.relu(), y.exp(), x * 2], 0), f(2, 5), f(3, 5))
    case("cat with an empty one", lambda x, y: torch.cat([x, y], 0), f(0), f(3, 5))
    case("cat of dtypes", lambda x, y: torch.cat([x, y]), f(3), i(4))
    case("cat then slices", lambda x, y: torch.cat([x.relu(), y.relu()], 1)[:, 1:4] * x.relu()[:, :1], f(2, 3), f(2, 2))
    case("meshgrid", lambda x, y: torch.meshgrid(x, y, indexing="ij"), f(3), f(4))
    case("broadcast_to", lambda x: x.broadcast_to(4, 3), f(3))
    case("im2col", lambda x: F.unfold(x, (2, 3), padding=1, stride=2), f(2, 3, 5, 7))
    case("rank 0", lambda x: x.view(()) + x.sum(), f(1))


def _reductions() -> None:
    for name in "sum mean amax amin var std".split():
        for dim in (1, (0, 2), (-1,)):
            case(f"{name} {dim}", lambda x, n=name, d=dim: getattr(torch, n)(x, dim=d, keepdim=d == 1), f(3, 4, 5))
        case(f"{name} all", getattr(torch, name), f(3, 4, 5))
    case("var biased", lambda x: x.var(1, correction=0), f(3, 4))
    case("var_mean", lambda x: torch.var_mean(x, 1), f(3, 4))
    for name in "max min argmax argmin".split():
        case(name, lambda x, n=name: getattr(torch, n)(x), f(3, 4))
        case(f"{name} dim", lambda x, n=name: getattr(torch, n)(x, dim=1), f(3, 4, 5))
        case(f"{name} keepdim", lambda x, n=name: getattr(torch, n)(x, dim=-1, keepdim=True), i(3, 4, low=0, high=3))
    case("argmax special", lambda x: x.argmax(1), special(2, 7))
    case("amax special", lambda x: x.amax(1), special(2, 7))
    case("sum integers", lambda x: x.sum(1), i(3, 4, dtype=torch.int32))
    case("sum bools", lambda x: x.sum(), b(3, 4))
    case("sum to float", lambda x: x.sum(0, dtype=torch.float32), i(3, 4))
    case("mean to float", lambda x: x.mean(0, dtype=torch.float32), i(3, 4))
    case("sum of none", lambda x: x.sum(0), f(0, 4))
    case("prod", lambda x: x.prod(1), f(3, 4))
    case("prod integers", lambda x: x.prod(), i(5, low=1, high=4))
    for name in ("any", "all"):
        case(name, getattr(torch, name), b(3, 4))
        case(f"{name} dim", lambda x, n=name: getattr(torch, n)(x, 1), i(3, 4, low=0, high=2))
    for order in (1, 2, 3, 0, math.inf, -math.inf):
        case(f"vector_norm {order}", lambda x, o=order: torch.linalg.vector_norm(x, o, 1), f(3, 4))
    case("norm", lambda x: x.norm(), f(3, 4))
    case("logsumexp", lambda x: x.logsumexp(1), f(3, 4))
    case("logsumexp special", lambda x: x.logsumexp((0, 1)), lambda g: torch.tensor([[math.inf, 1.0]]))
    case("count_nonzero", lambda x: x.count_nonzero(1), i(3, 4, low=0, high=2))
    case("cumsum", lambda x: x.cumsum(1), f(3, 4, 2))
    case("cumsum integers", lambda x: x.cumsum(-1), i(3, 4, dtype=torch.int32))
    case("cumsum bools", lambda x: x.cumsum(0), b(7))
    case("cumprod", lambda x: x.cumprod(0), f(3, 4))
    for descending in (False, True):
        case(f"sort descending={descending}", lambda x, d=descending: x.sort(1, descending=d), f(3, 5, 2))
        case(
            f"sort stable descending={descending}",
            lambda x, d=descending: torch.sort(x, stable=True, descending=d),
            i(3, 9, low=0, high=3),
        )
    case("argsort", lambda x: x.argsort(0), f(5, 3))
    case("topk", lambda x: x.topk(3, 1), f(2, 7, 3))
    case("topk smallest", lambda x: x.topk(2, largest=False), f(2, 7))


def _indexing() -> None:
    x = f(4, 5, 6)
    idx = i(3, low=0, high=4)
    case("embedding", lambda w, n: F.embedding(n, w), f(9, 4), i(2, 3, low=0, high=9))
    module("embedding module", lambda: nn.Embedding(9, 4, padding_idx=0), i(2, 3, low=0, high=9))
    case("embedding int32", lambda w, n: F.embedding(n, w), f(9, 4), i(2, low=0, high=9, dtype=torch.int32))
    case("index_select", lambda x, n: x.index_select(1, n), x, idx)
    case("gather", lambda x, n: x.gather(1, n), x, i(3, 2, 6, low=0, high=5))
    case("take_along_dim", lambda x, n: torch.take_along_dim(x, n, 1), x, i(1, 2, 6, low=0, high=5))
    case("take", torch.take, x, i(3, 2, low=0, high=120))
    case("index", lambda x, n: x[n], x, idx)
    case("index negative", lambda x, n: x[n], x, i(3, low=-4, high=4))
    case("index middle", lambda x, n: x[:, n], x, idx)
    case("index last", lambda x, n: x[..., n], x, i(2, 3, low=0, high=6))
    case("index two", lambda x, n, m: x[n, m], x, idx, i(2, 1, low=0, high=5))
    case("index apart", lambda x, n, m: x[n, :, m], x, idx, idx)
    case("index adjacent", lambda x, n, m: x[:, n, m], x, idx, idx)
    case("index constant", lambda x: x[:, [0, 3, 1]], x)
    case("index_copy", lambda x, n, y: x.index_copy(1, n, y), x, lambda g: torch.tensor([4, 1]), f(4, 2, 6))
    case("index_add", lambda x, n, y: x.index_add(1, n, y, alpha=2), x, lambda g: torch.tensor([4, 1, 4]), f(4, 3, 6))
    case("index_fill", lambda x, n: x.index_fill(1, n, 3.0), x, idx)
    case("index_put", lambda x, n, y: x.index_put((n,), y), x, lambda g: torch.tensor([3, -4]), f(5, 6))
    case(
        "index_put adds",
        lambda x, n, y: x.index_put((n,), y, accumulate=True),
        x,
        lambda g: torch.tensor([3, 3]),
        f(2, 5, 6),
    )
    case("scatter", lambda x, n, y: x.scatter(1, n, y), x, lambda g: torch.tensor([[[1], [3]], [[0], [2]]]), f(4, 3, 2))
    case("scatter value", lambda x, n: x.scatter(1, n, 7.0), x, i(2, 3, 4, low=0, high=5))
    case("scatter_add", lambda x, n, y: x.scatter_add(0, n, y), f(4, 5), i(6, 5, low=0, high=4), f(6, 5))
    for how in ("sum", "prod", "amax", "amin"):
        case(
            f"scatter_reduce {how}",
            lambda x, n, y, h=how: x.scatter_reduce(0, n, y, h),
            f(4, 5),
            i(6, 5, low=0, high=4),
            f(6, 5),
        )
    case("select_scatter", lambda x, y: x.select_scatter(y, 1, -2), x, f(4, 6))
    case("slice_scatter", lambda x, y: x.slice_scatter(y, 1, 0, 5, 2), x, f(4, 3, 6))
    case("assign a slice", _assign, x, f(4, 2, 6))


def _assign(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, 1:3] = y
    x[0, 0] += 1
    return x


def _makers() -> None:
    case("arange", lambda x: x + torch.arange(5), f(3, 5))
    case("arange float", lambda x: x + torch.arange(0.5, 3.0, 0.5), f(5))
    case("arange down", lambda x: x + torch.arange(9, 0, -2), i(5))
    case("arange alone", lambda x: (x, torch.arange(4)), f(2))
    case("linspace", lambda x: x * torch.linspace(-1, 1, 7), f(7))
    case("full", lambda x: x + torch.full((2, 5), 3.5), f(5))
    case("zeros ones", lambda x: torch.cat([torch.zeros(2, 5), x, torch.ones(1, 5)]), f(3, 5))
    case("like", lambda x: torch.zeros_like(x) + torch.ones_like(x, dtype=torch.int32) + torch.full_like(x, 2), f(3))
    case("new", lambda x: x.new_zeros(3) + x.new_full((2, 3), 2) + x.new_ones(()), f(3))
    case("eye", lambda x: x + torch.eye(3, 4), f(3, 4))
    case("constant", lambda x: x * torch.tensor([1.0, 2.0, 3.0]), f(3))
    case("constant scalar", lambda x: x * torch.tensor(2.5), f(3))
    case("constant double scalar", lambda x: x * torch.tensor(2.5, dtype=torch.float64), f(3))
    for mode in ("reflect", "replicate", "circular"):
        case(f"pad {mode}", lambda x, m=mode: F.pad(x, (2, 1, 1, 2), m), f(2, 3, 4, 5))
    case("pad", lambda x: F.pad(x, (1, 2, 0, 1), value=1.5), f(3, 4))
    case("pad -inf", lambda x: F.pad(x, (1, 1), value=-math.inf), f(3, 4))
    case("pad negative", lambda x: F.pad(x, (-1, 2, 1, -1)), f(3, 4))
    case("pad integers", lambda x: F.pad(x, (1, 2)), i(3, 4))
    for mode, align in (
        ("nearest", None),
        ("nearest-exact", None),
        ("bilinear", False),
        ("bilinear", True),
        ("bicubic", False),
        ("bicubic", True),
    ):
        case(
            f"interpolate {mode} {align} size",
            lambda x, m=mode, a=align: F.interpolate(x, (7, 3), mode=m, align_corners=a),
            f(2, 3, 5, 6),
        )
        case(
            f"interpolate {mode} {align} scale",
            lambda x, m=mode, a=align: F.interpolate(x, scale_factor=(1.7, 0.6), mode=m, align_corners=a),
            f(2, 3, 5, 6),
        )
    case("interpolate linear", lambda x: F.interpolate(x, 9, mode="linear"), f(2, 3, 5))
    case("interpolate trilinear", lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), f(1, 2, 3, 2, 3))
    case("interpolate nearest 1d", lambda x: F.interpolate(x, scale_factor=2.0), f(2, 3, 5))
    case(
        "rotary",
        lambda p, q: q * torch.cos(p[:, None].float() @ torch.tensor([[1.0, 0.1]])).repeat(1, 2),
        i(5, low=0, high=50),
        f(5, 4),
    )


for _family in (_views, _reductions, _indexing, _makers):
    _family()
