"""Products beyond matmul, distances, losses, recurrent layers, order statistics and running values."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from .making import b, case, f, i, module, positive, special, strided


def _mode(x: torch.Tensor) -> torch.Tensor:
    """As the refusal of ``mode`` says it."""
    s = x.sort(-1).values
    return s.gather(-1, (s[..., :, None] == s[..., None, :]).sum(-1).argmax(-1, keepdim=True))


def _products() -> None:
    for equation, *dims in (
        ("bi,oij,bj->bo", (2, 3), (4, 3, 5), (2, 5)),
        ("ii->", (3, 3)),
        ("ii->i", (3, 3)),
        ("bii->ib", (2, 3, 3)),
        ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)),
        ("...ij,jk", (2, 1, 3, 4), (4, 5)),
        ("ij,kj", (3, 4), (1, 4)),
        ("ij,ij->i", (3, 4), (3, 1)),
        ("ijk->kji", (2, 3, 4)),
        ("a,b,c->abc", (2,), (3,), (4,)),
    ):
        case(f"einsum {equation}", lambda *t, e=equation: torch.einsum(e, *t), *(f(*d) for d in dims))
    wide = functools.partial(i, low=-(2**30), high=2**30, dtype=torch.int32)
    for equation, *dims in (
        ("ii->", (3, 3)),
        ("ij->i", (3, 4)),
        ("ij,jk->", (3, 4), (4, 5)),  # sums before the product, in int64
        ("ij,k->k", (3, 4), (5,)),
        ("ij,ij->i", (3, 4), (3, 1)),
        ("a,b,c->abc", (2,), (3,), (4,)),  # products in int32, which wrap
        ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
    ):
        case(f"einsum of int32 {equation}", lambda *t, e=equation: torch.einsum(e, *t), *(wide(*d) for d in dims))
    case("einsum of bool", lambda *t: torch.einsum("ij,k->ikj", *t), b(2, 3), b(4))
    case("einsum of bool sums", lambda *t: torch.einsum("ij,k->k", *t), b(2, 3), b(4))
    case("tensordot", lambda x, y: torch.tensordot(x, y, 2), f(2, 3, 4), f(3, 4, 5))
    case("tensordot of dims", lambda x, y: torch.tensordot(x, y, ([0, 2], [1, 0])), f(2, 3, 4), f(4, 2, 5))
    case("outer", torch.outer, f(3), f(4))
    case("outer of dtypes", torch.outer, i(3), f(4))
    case("inner", torch.inner, f(2, 3), f(4, 3))
    case("inner of numbers", torch.inner, f(), f(3))
    case("kron", torch.kron, f(2, 3), f(2, 2))
    case("kron of ranks", torch.kron, f(3), f(2, 1, 2))
    case("cross", torch.linalg.cross, f(4, 3), f(4, 3))
    case("cross first", lambda x, y: torch.cross(x, y, dim=0), f(3, 4), f(3, 4))
    case("trace", torch.trace, f(3, 4))
    case("trace integers", torch.trace, i(4, 3, dtype=torch.int32))
    case("addmv", torch.addmv, f(3), f(3, 4), f(4))
    case("addr", lambda s, x, y: torch.addr(s, x, y, beta=0.5, alpha=2), f(3, 4), f(3), f(4))
    case("addbmm", torch.addbmm, f(3, 5), f(2, 3, 4), f(2, 4, 5))
    case("baddbmm without itself", lambda s, x, y: torch.baddbmm(s, x, y, beta=0), f(2, 3, 5), f(2, 3, 4), f(2, 4, 5))
    case("multi_dot", lambda x, y, z: torch.linalg.multi_dot([x, y, z]), f(2, 3), f(3, 4), f(4, 2))
    case("matrix_power", lambda x: torch.linalg.matrix_power(x, 5), f(2, 3, 3, scale=0.7))
    case("vecdot", lambda x, y: torch.linalg.vecdot(x, y, dim=1), f(3, 4, 2), f(3, 4, 2))
    case("matmul integers", torch.matmul, i(2, 3, 4), i(4, 5))
    case("matmul int32", torch.matmul, i(3, 4, dtype=torch.int32), i(4, dtype=torch.int32))
    case("matmul big integers", torch.matmul, i(3, 4, low=2**40, high=2**41), i(4, 2, low=0, high=2**20))
    case("matmul large integers", torch.matmul, i(300, 300), i(300, 300))
    case(
        "matmul bytes",
        torch.matmul,
        i(40, 200, low=-128, high=128, dtype=torch.int8),
        i(3, 200, 70, low=-128, high=128, dtype=torch.int8),
    )
    case("matmul of many tiny", torch.matmul, f(5, 7, 3, 2), f(7, 2, 3))
    case("matmul of many tiny, gelu", lambda x, y, z: F.gelu(x @ y + z), f(300, 2, 3), f(300, 3, 4), f(2, 1))
    case("matmul of many tiny transposed", lambda x, y: x.transpose(0, 2) @ y, f(2, 3, 40), f(40, 2, 1))
    case("matmul of many tiny integers", torch.matmul, i(40, 2, 3), i(40, 3, 2))
    case("matmul of repeated columns", lambda x, y: x @ y.expand(-1, 40, -1), f(3, 1, 40), f(3, 1, 1))
    case("matmul empty batch", torch.matmul, f(0, 3, 4), f(0, 4, 5))
    case("linear by a vector", F.linear, f(3, 4), f(4))
    module("bilinear", lambda: nn.Bilinear(3, 4, 5), f(2, 3), f(2, 4))
    case("matrix_power 0", lambda x: torch.linalg.matrix_power(x, 0), f(3, 3), refused="the matrix power 0")
    case("inverse", torch.linalg.inv, lambda g: torch.eye(3) * 2 + f(3, 3, scale=0.1)(g), refused="no lowering")


def _distances() -> None:
    case("dist", torch.dist, f(3, 4), f(3, 4))
    case("dist 1", lambda x, y: torch.dist(x, y, 1), f(3, 4), f(4))
    for p in (1.0, 2.0, 3.0, math.inf):
        case(f"pairwise_distance {p}", lambda x, y, p=p: F.pairwise_distance(x, y, p), f(3, 4), f(3, 4))
        case(f"cdist {p}", lambda x, y, p=p: torch.cdist(x, y, p), f(2, 3, 4), f(2, 5, 4))
    case("cosine_similarity", F.cosine_similarity, f(3, 4), f(3, 4))
    case("cosine_similarity broadcast", lambda x, y: F.cosine_similarity(x[:, None], y, -1), f(3, 4), f(5, 4))
    for order in ("fro", 1, -1, math.inf, -math.inf):
        case(f"matrix_norm {order}", lambda x, o=order: torch.linalg.matrix_norm(x, o), f(2, 3, 4))
    case("matrix_norm kept", lambda x: torch.linalg.matrix_norm(x, 1, (0, 2), True), f(2, 3, 4))
    case("matrix_norm 2", lambda x: torch.linalg.matrix_norm(x, 2), f(3, 4), refused="singular values")
    case("linalg_norm", torch.linalg.norm, f(3, 4))
    case("linalg_norm dim", lambda x: torch.linalg.norm(x, 3, 1), f(3, 4))


def _losses() -> None:
    for reduction in ("mean", "sum", "none"):
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
            case(f"{name} {reduction}", lambda x, y, n=name, r=reduction: getattr(F, n)(x, y, reduction=r), f(3, 5),
                 f(3, 5))  # fmt: skip
        case(f"cross_entropy {reduction}", lambda x, t, r=reduction: F.cross_entropy(x, t, reduction=r), f(4, 5),
             i(4, low=0, high=5))  # fmt: skip
        case(f"nll_loss weighted {reduction}", lambda x, t, w, r=reduction: F.nll_loss(x, t, w, reduction=r,
             ignore_index=1), f(4, 5), i(4, low=0, high=5), positive(5))  # fmt: skip
    case("cross_entropy of images", F.cross_entropy, f(2, 5, 3, 4), i(2, 3, 4, low=0, high=5))
    case("cross_entropy of one", F.cross_entropy, f(5), i(low=0, high=5))
    case("cross_entropy smoothed", lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1), f(4, 5),
         i(4, low=0, high=5), refused="label smoothing")  # fmt: skip
    share = lambda g: torch.rand((3, 5), generator=g) * 0.9 + 0.05  # noqa: E731
    case("binary_cross_entropy", F.binary_cross_entropy, share, share)
    case("bce with logits", lambda x, y: F.binary_cross_entropy_with_logits(x, y, pos_weight=y[0] + 1), f(3, 5), share)
    case("kl_div", lambda x, y: F.kl_div(x, y, reduction="batchmean"), f(3, 5), share)
    case("kl_div of logs", lambda x, y: F.kl_div(x, y, reduction="sum", log_target=True), f(3, 5), f(3, 5))


def _recurrent() -> None:
    x = f(4, 2, 3)
    for name in ("LSTM", "GRU", "RNN"):
        module(name.lower(), lambda n=name: getattr(nn, n)(3, 5), x)
        module(f"{name.lower()} deep", lambda n=name: getattr(nn, n)(3, 5, 2, bidirectional=True, batch_first=True), x)
        module(f"{name.lower()} without biases", lambda n=name: getattr(nn, n)(3, 5, bias=False), f(4, 3))
        module(f"{name.lower()} cell", lambda n=name: getattr(nn, f"{n}Cell")(3, 5), f(2, 3))
    module("rnn relu", lambda: nn.RNN(3, 5, nonlinearity="relu"), x)
    module("lstm with projections", lambda: nn.LSTM(3, 5, proj_size=2), x, refused="projections have no lowering")


def _order() -> None:
    for name in ("median", "nanmedian"):
        case(name, getattr(torch, name), f(3, 5))
        case(f"{name} dim", lambda x, n=name: getattr(torch, n)(x, 1), f(3, 6, 2))
        case(f"{name} special", lambda x, n=name: getattr(torch, n)(x, 0).values, special(9, 2))
    case("median integers", lambda x: x.median(0, keepdim=True).values, i(5, 3))
    case("kthvalue", lambda x: x.kthvalue(2, 1), f(3, 5))
    case("kthvalue kept", lambda x: x.kthvalue(1, 0, True), strided(4, 3))
    for how in ("linear", "lower", "higher", "midpoint"):
        case(f"quantile {how}", lambda x, h=how: x.quantile(0.3, 1, interpolation=h), f(3, 6))
    case("quantile of all", lambda x: x.quantile(1.0, keepdim=True), f(3, 6))
    case("quantile special", lambda x: x.quantile(0.5, 1), special(2, 7))
    case("mode", lambda x: x.mode(1), i(3, 5), refused="of sorted rows s it is s.gather")
    case("mode by sorting", _mode, i(6, 7, low=0, high=4))
    case("nanquantile", lambda x: x.nanquantile(0.5, 1), f(3, 6), refused="use quantile on values without NaN")
    for name in ("cummax", "cummin"):
        case(name, lambda x, n=name: getattr(torch, n)(x, 1), f(3, 7, 2))
        case(f"{name} special", lambda x, n=name: getattr(torch, n)(x, 0), special(9))
        case(f"{name} of rows", lambda x, n=name: getattr(torch, n)(x, -1), f(3, 70))
        case(f"{name} of rows, special", lambda x, n=name: getattr(torch, n)(x, -1), special(2, 70))
        case(f"{name} ties", lambda x, n=name: getattr(torch, n)(x, -1), i(2, 12, low=0, high=3))
        case(f"{name} of bools", lambda x, n=name: getattr(torch, n)(x, 0), b(5, 3))
    case("logcumsumexp", lambda x: x.logcumsumexp(1), f(3, 9))
    case("logcumsumexp of infinities", lambda x: x.logcumsumexp(0), lambda g: torch.tensor([-math.inf, -math.inf, 1.0]))
    case("nansum", lambda x: x.nansum(1), lambda g: special(3, 9)(g).masked_fill_(f(3, 9)(g) > 9, 0).nan_to_num(
        nan=math.nan, posinf=1, neginf=2))  # fmt: skip
    case("nanmean", lambda x: x.nanmean(0), lambda g: special(9, 2)(g).nan_to_num(nan=math.nan, posinf=1, neginf=2))
    square = lambda x, y: (x - y) * (x - y)  # noqa: E731
    case("sum of a map", lambda x, y: square(x, y).sum(-1), f(3, 5, 700), f(5, 1))
    case("sum of a map of short rows", lambda x, y: square(x, y).sum(-1), f(40, 3, 5), f(3, 5))
    case("sum of a map of uneven rows", lambda x, y: square(x, y).sum((1, 2)), f(40, 10, 64), f(10, 1))
    case("sum of a map, columns", lambda x, y: square(x, y).sum(0), f(70, 600), f(600))
    case("sum of a map, three columns behind a block", lambda x, y: square(x, y).sum(0), f(700, 515), f(515))
    case("sum of squares", lambda x: (x * x).sum(-1), f(3, 5, 700))
    case("sum of squares of uneven rows", lambda x: (x * x).sum((0, 2)), f(6, 3, 41))
    case("mean of squares of a part", lambda x: (x[:, 1:] * x[:, 1:]).mean(1), f(9, 38))
    case("sum of squares of steps", lambda x: (x[:, ::2] * x[:, ::2]).sum(1), f(9, 80))
    case("mean of a map of columns", lambda x: (x.exp() + 1).mean((0, 2)), f(3, 80, 9))
    case("max of a map, columns", lambda x, y: (x * y).amax(0), f(9, 80), f(80))
    case(
        "extremes of maps",
        lambda x: ((x + 1).amax(1), (x * 2).amin((0, 1)), (x > 0).all(), (x > 9).any(1)),
        special(30, 20),
    )
    case("prod of a map", lambda x: (x.abs() + 0.5).prod(1), f(40, 6))
    case("sum of a map of everything", lambda x, y: ((x - y).abs() * 2).sum(), f(30, 41), f(30, 41))
    case("count of a map", lambda x: (x > 0.5).sum(1), f(7, 65))
    case("trapezoid", lambda x: torch.trapezoid(x, dx=0.5, dim=1), f(3, 4))
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        case(f"amax and sum of columns {dtype}", lambda x: (x.amax(1), x.amin(1), x.sum(1)),
             i(3, 7, 40, low=0, high=120, dtype=dtype))  # fmt: skip
    case("all bytes", lambda x: x.all(1), i(3, 4, low=0, high=2, dtype=torch.uint8))
    case("any dims", lambda x: torch.any(x, (0, 2), keepdim=True), b(2, 3, 4))
    case("var of one", lambda x: x.var(1), f(3, 1))
    case("std correction", lambda x: x.std((0, 1), correction=2), f(4, 5))
    case("sort nothing", lambda x: x.sort(0), f(0, 3))
    case("topk none", lambda x: x.topk(0, 1), f(3, 4))


for _family in (_products, _distances, _losses, _recurrent, _order):
    _family()
