"""Cutting, joining, turning, diagonals, masks, searching and writing by index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .making import b, case, f, i, module, nonzero, positive, special, strided


def _views() -> None:
    x = f(2, 3, 4, 6)
    table: dict[str, Callable[[Tensor], Any]] = {
        "tensor_split": lambda x: x.tensor_split(5, 3),
        "tensor_split at": lambda x: x.tensor_split([1, 4], 3),
        "tensor_split beyond": lambda x: x.tensor_split([-2, 9], 3),
        "hsplit": lambda x: x.hsplit(3),
        "hsplit at": lambda x: x.hsplit([1]),
        "vsplit": lambda x: x.vsplit(2),
        "dsplit": lambda x: x.dsplit(2),
        "chunk uneven": lambda x: x.chunk(4, 3),
        "split in one": lambda x: x.split(9),
        "unsafe_chunk": lambda x: torch.unsafe_chunk(x, 2, 2),
        "dstack": lambda x: torch.dstack([x, x * 2]),
        "dstack of vectors": lambda x: torch.dstack([x[0, 0, 0], x[0, 0, 1]]),
        "column_stack": lambda x: torch.column_stack([x[0, 0, 0], x[0, 0, 1], x[0, 0].t()]),
        "vstack": lambda x: torch.vstack([x[0, 0, 0], x[0, 0]]),
        "rot90": lambda x: x.rot90(1, [2, 3]),
        "rot90 twice": lambda x: x.rot90(2, [1, 3]),
        "rot90 back": lambda x: x.rot90(-1, [0, 2]),
        "fliplr": lambda x: x.fliplr(),
        "flipud": lambda x: x.flipud(),
        "swapdims": lambda x: x.swapdims(0, -1),
        "moveaxis": lambda x: x.moveaxis((0, 1), (2, 0)),
        "mH": lambda x: x.mH + x.adjoint() * x.mT,
        "atleast_3d": lambda x: (torch.atleast_3d(x[0, 0, 0, 0]), torch.atleast_3d(x[0, 0, 0]), torch.atleast_3d(x)),
        "atleast_2d": lambda x: (torch.atleast_2d(x[0, 0, 0, 0]), torch.atleast_1d(x[0, 0, 0, 0])),
        "diagonal of matrices": lambda x: torch.linalg.diagonal(x, offset=-1),
        "narrow from the end": lambda x: x.narrow(-1, -3, 2),
        "unfold first": lambda x: x.unfold(0, 2, 1),
        "view of its dtype": lambda x: x.view(x.dtype) + x.real,
        "unbind last": lambda x: x.unbind(-1),
        "roll a strided one": lambda x: x.permute(3, 1, 0, 2).roll((1, 2), (0, -1)),
        "cartesian_prod": lambda x: torch.cartesian_prod(x[0, 0, 0], x[0, 0, 1], x[0, 1, 0, :2]),
        "meshgrid xy": lambda x: torch.meshgrid(x[0, 0, 0], x[0, 0, :, 0], indexing="xy"),
        "cat of views of one": lambda x: torch.cat([x[:, 1:], x[:, :1], x], 1),
        "cat of nothing": lambda x: torch.cat([x[:, :0], x[:, :0]], 1),
        "stack last": lambda x: torch.stack([x.relu(), x.exp()], -1),
        "repeat none": lambda x: x.repeat(1, 0, 1, 2),
        "flip nothing": lambda x: x[:0].flip(0, 1),
    }
    for name, function in table.items():
        case(name, function, x)
    case("block_diag", lambda x, y: torch.block_diag(x, y, x[0]), f(2, 3), f(1, 2))
    case("view as another dtype", lambda x: x.view(torch.int32), f(3), refused="the bits of float32 read as int32")
    case("as_strided", lambda x: x.as_strided((2, 3), (1, 2)), f(9), refused="layout of memory, which a program leaves")
    case("repeat_interleave by a tensor", lambda x: torch.repeat_interleave(x, torch.tensor([1, 2, 1]), 0,
         output_size=4), f(3, 2), refused="known only at run time")  # fmt: skip


def _rank_8() -> None:
    x, y = f(1, 2, 1, 3, 2, 1, 2, 2), f(3, 1, 1, 2, 1)
    table: dict[str, Callable[..., Any]] = {
        "arithmetic": lambda x, y: x * 2 + y[..., None].squeeze(-1).unsqueeze(0)[:, :, 0].unsqueeze(2)[0, 0, 0, 0] - x,
        "reductions": lambda x, y: (x.sum((1, 3, -1)), x.amax(4, keepdim=True), x.softmax(3), x.argmax(-1)),
        "views": lambda x, y: (x.permute(7, 6, 5, 4, 3, 2, 1, 0).reshape(4, -1), x.flip(1, 3, 7), x.transpose(1, -1)),
        "cat": lambda x, y: torch.cat([x.exp(), x], 3),
        "matmul": lambda x, y: x @ x.transpose(-1, -2),
        "cumsum": lambda x, y: x.cumsum(3) + x.sort(3)[0],
        "index": lambda x, y: (x[:, :, :, torch.tensor([2, 0])], x.gather(3, (x > 0).long())),
    }
    for name, function in table.items():
        case(f"rank 8 {name}", function, x, y)
    case("rank 9", lambda x: x.view(1, 1, 1, 1, 1, 1, 1, 3, 1) * 2, f(3), refused="rank 9, above 8")


def _diagonals() -> None:
    for offset in (0, 1, -2):
        case(f"diag {offset}", lambda x, o=offset: torch.diag(x, o), f(3))
        case(f"diag of a matrix {offset}", lambda x, o=offset: torch.diag(x, o), f(4, 5))
        case(f"diag_embed {offset}", lambda x, o=offset: torch.diag_embed(x, o, 0, -1), f(2, 3))
        case(f"diagonal_scatter {offset}", lambda x, y, o=offset: x.diagonal_scatter(y, o, 0, 2),
             f(3, 2, 4) if offset != -2 else f(4, 2, 2), f(2, 3) if offset != -2 else f(2, 2))  # fmt: skip
    case("diag integers", torch.diag, i(3))
    case("tril_indices", lambda x: x[tuple(torch.tril_indices(4, 4, -1))], f(4, 4))
    case("triu_indices", lambda x: x[tuple(torch.triu_indices(3, 4, 1))], f(3, 4))
    case("tril bools", lambda x: torch.tril(x, -1), b(4, 4))
    case("triu integers", lambda x: torch.triu(x, -1), i(2, 3, 4))
    case("masked tril", lambda x: x.masked_fill(torch.ones(4, 4).tril() == 0, -1e4), f(2, 4, 4))


def _searching() -> None:
    case("one_hot", lambda x: F.one_hot(x, 5), i(2, 3, low=0, high=5))
    for right in (False, True):
        case(f"bucketize {right}", lambda x, r=right: torch.bucketize(x, torch.arange(-2, 3).to(x.dtype), right=r,
             out_int32=r), lambda g: torch.tensor([-3.0, -2.0, 0.5, 1.0, 2.0, 9.0]))  # fmt: skip
        case(f"searchsorted {right}", lambda s, x, r=right: torch.searchsorted(s.sort(-1)[0], x, right=r), f(2, 5),
             f(2, 3))  # fmt: skip
    case("searchsorted among many", lambda s, x: torch.searchsorted(s.sort(-1)[0], x), f(3, 37), f(3, 20))
    case(
        "searchsorted among many, right",
        lambda s, x: torch.searchsorted(s.sort()[0], x, right=True, out_int32=True),
        i(100, low=0, high=30),
        i(4, 5, low=-2, high=40),
    )
    case("bucketize among many", lambda x: torch.bucketize(x, torch.arange(-8, 9).to(x.dtype)), special(3, 9))
    case("searchsorted integers", lambda s, x: torch.searchsorted(s.sort()[0], x, side="right"), i(9), i(2, 5))
    case("searchsorted special", lambda x: torch.searchsorted(torch.arange(-1, 2).to(x.dtype), x), special(2, 9))
    case("isin", lambda x: torch.isin(x, torch.tensor([1, 2])), i(2, 9))
    case("isin inverted", lambda x, y: torch.isin(x, y, invert=True), f(4), f(0))
    case("isin number", lambda x: torch.isin(x, 3), i(9))
    case("isclose", torch.isclose, special(3, 5), special(3, 5))
    case("isclose nan", lambda x: torch.isclose(x, x * (1 + 1e-7), equal_nan=True), special(3, 5))
    case("heaviside", torch.heaviside, lambda g: torch.tensor([-1.0, 0.0, 2.0]), f(3))


def _writing() -> None:
    x, n, y = f(4, 3), i(6, 3, low=0, high=4), f(6, 3)
    for how in ("sum", "prod", "amax", "amin", "mean"):
        case(f"scatter_reduce {how} alone", lambda x, n, y, h=how: x.scatter_reduce(0, n, y, h, include_self=False), x,
             n, y)  # fmt: skip
    case("scatter_reduce mean of all", lambda x, n, y: x.scatter_reduce(0, n, y, "mean"), x, n, y)
    case("scatter_reduce integers", lambda x, n, y: x.scatter_reduce(0, n, y, "amax", include_self=False), i(4, 3), n,
         i(6, 3))  # fmt: skip
    for how in ("prod", "amax", "amin"):
        for own in (True, False):
            case(f"index_reduce {how} {own}", lambda x, n, y, h=how, o=own: x.index_reduce(0, n, y, h, include_self=o),
                 x, i(6, low=0, high=4), y)  # fmt: skip
    case("scatter multiply", lambda x, n, y: x.scatter(0, n, y, reduce="multiply"), x, n, y)
    case("scatter add a number", lambda x, n: x.scatter(0, n, 2.0, reduce="add"), x, n)
    case("put", lambda x, n, y: x.put(n, y), x, lambda g: torch.tensor([[3, -1], [5, 0]]), f(2, 2))
    case("put adds", lambda x, n, y: x.put(n, y, accumulate=True), x, i(5, low=0, high=12), f(5))
    rows = lambda g: torch.tensor([1, 2, 0, 3])  # noqa: E731
    case("index_copy of its own base", lambda x, n: (lambda y: y.index_copy(0, n, y) * 2)(x * 2), x, rows)
    case("index_add of its own base", lambda x, n: (lambda y: y.index_add(0, n, y) * 2)(x * 2), x, rows)
    case("masked_scatter", lambda x, m, y: x.masked_scatter(m, y), x, b(4, 3), f(12))
    case("masked_scatter broadcast", lambda x, m, y: x.masked_scatter(m, y), x, b(3), f(20))
    case("index_put mask", lambda x, m: x.index_put((m,), torch.tensor(1.5, dtype=x.dtype)), x, b(4))
    case("index_put mask of rows", lambda x, m, y: x.index_put((m,), y), x, b(4), f(3))
    case("index_put mask adds", lambda x, m, y: x.index_put((m,), y, accumulate=True), x, b(4, 3), f(1))
    case(
        "index_put mask behind", lambda x, m, y: torch.ops.aten.index_put(x, [None, m], y), f(2, 4, 3), b(4), f(2, 1, 3)
    )
    case("assign by a mask", _assign, x, b(4, 3))
    case("index_put mask of many", lambda x, m, y: x.index_put((m,), y), x, lambda g: torch.tensor([True, False, True,
         False]), f(2, 3), refused="their number is known only at run time")  # fmt: skip
    case("index_put mixed", lambda x, n: x.index_put((torch.tensor([0, 1])[:, None], n), x.sum() * 0 + 2), x,
         i(2, 3, low=0, high=3))  # fmt: skip
    case("gather integers", lambda x, n: x.gather(0, n), i(4, 3), n)
    case("gather nothing", lambda x, n: x.gather(0, n), x, i(0, 3, low=0, high=1))
    case("index_select strided", lambda x, n: x.index_select(0, n), strided(4, 3), i(5, low=0, high=4))
    case("index_add integers", lambda x, n, y: x.index_add(0, n, y), i(4, 3), i(5, low=0, high=4), i(5, 3))
    case("take_along flat", torch.take_along_dim, x, i(3, low=0, high=12))


def _assign(x: Tensor, mask: Tensor) -> Tensor:
    x = x.clone()
    x[mask] = 0.5
    return x


def _elementwise() -> None:
    case("logit eps", lambda x: torch.logit(x, 0.1), lambda g: torch.rand(9, generator=g))
    case("expit", torch.special.expit, f(3))
    case("entr", torch.special.entr, lambda g: torch.tensor([-1.0, 0.0, 0.5, 2.0]))
    case("xlog1py", torch.special.xlog1py, lambda g: torch.tensor([0.0, 1.0, 2.0]), positive(3))
    case("logaddexp2", torch.logaddexp2, f(3, 5), f(5))
    case("ldexp", torch.ldexp, f(3), i(3))
    case("round decimals", lambda x: x.round(decimals=1), f(9))
    case("round tens", lambda x: x.round(decimals=-1), f(9, scale=50.0))
    case("rad2deg", torch.rad2deg, f(3))
    case("signbit", torch.signbit, special(9))
    case("sinc", torch.sinc, lambda g: torch.tensor([0.0, 0.5, -1.3]))
    case("copysign of integers", lambda x: torch.copysign(x, -1.0), i(3))
    case("clamp integers by fractions", lambda x: x.clamp(-0.5, 1.5), i(5))
    case("where of dtypes", torch.where, b(3), i(3), f(3))
    case("shift by tensors", lambda x, y: (x << y) + (x >> y), i(9, low=0, high=99), i(9, low=0, high=5))
    case("shift int32", lambda x, y: x << y, i(9, dtype=torch.int32, low=0), i(9, dtype=torch.int32, low=0, high=5))
    case("shift negative", lambda x: (x << 3) >> 1, i(9))
    case("power of integers", lambda x, y: x**y, i(9), i(9, low=0, high=5))
    case("number modulo integers", lambda x: 7 % x, nonzero(9))
    case("fmod by a negative", lambda x: torch.fmod(x, -3), i(19))
    case("remainder special", torch.remainder, special(3, 5), positive(5))
    case("int8 products wrap", lambda x: x * x, i(9, low=-99, high=99, dtype=torch.int8))
    case("uint8 differences wrap", lambda x: x - 5, i(9, low=0, high=9, dtype=torch.uint8))
    case("bools compared", lambda x, y: (x > y) | (x <= y) ^ x, b(9), b(9))
    case("bools with numbers", lambda x: (x ^ True) & (x | False), b(9))
    case("maximum special", torch.maximum, special(3, 5), f(5))
    case("fmin special", torch.fmin, special(3, 5), f(5))
    case("linspace of one", lambda x: x + torch.linspace(2, 5, 1), f(1))
    case("linspace odd", lambda x: x + torch.linspace(-1, 2, 5), f(5))
    case("logspace", lambda x: x * torch.logspace(0, 1, 3), f(3))
    case("arange by fractions", lambda x: x + torch.arange(0, 1, 0.1), f(10))
    module("channel shuffle", lambda: nn.ChannelShuffle(2), f(1, 4, 2, 2))
    case("local_response_norm", lambda x: F.local_response_norm(x, 3, 0.1, 0.5, 2.0), f(2, 5, 4, 3))
    case("feature_alpha_dropout", lambda x: F.feature_alpha_dropout(x, 0.5, False), f(2, 3))
    case("nextafter", torch.nextafter, f(5), f(5), refused="no lowering")
    case("float_power", lambda x: torch.float_power(x, 2), f(3), refused="float64")
    case("random", lambda x: x + torch.rand(3), f(3), refused="it draws random numbers")
    case("fft", lambda x: torch.fft.fft(x).abs(), f(8), refused="complex numbers")


for _family in (_views, _rank_8, _diagonals, _searching, _writing, _elementwise):
    _family()
