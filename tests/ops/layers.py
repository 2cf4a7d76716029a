"""Products, convolutions, pools and norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from npu.generation.int8_cache import dequantized_rows
from torch import Tensor, nn

from .making import case, f, i, module, special, strided, unit


def _matmuls() -> None:
    shapes = [
        ((3, 4), (4, 5)),
        ((4,), (4,)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (7, 4, 5)),
        ((2, 3, 4), (4,)),
        ((4,), (2, 4, 5)),
        ((0, 4), (4, 5)),
        ((3, 0), (0, 5)),
    ]
    for x, y in shapes:
        case(f"matmul {x} {y}", torch.matmul, f(*x), f(*y))
    case("matmul transposed", lambda x, y: x @ y.transpose(-2, -1) / math.sqrt(8), f(2, 3, 5, 8), f(2, 3, 7, 8))
    case("matmul strided", torch.matmul, strided(3, 5), strided(5, 7))
    case("bmm", torch.bmm, f(2, 3, 4), f(2, 4, 5))
    case("addmm", torch.addmm, f(5), f(3, 4), f(4, 5))
    case("addmm scaled", lambda s, x, y: torch.addmm(s, x, y, beta=0.5, alpha=2), f(3, 5), f(3, 4), f(4, 5))
    case("baddbmm", lambda s, x, y: torch.baddbmm(s, x, y, alpha=0.3), f(2, 3, 5), f(2, 3, 4), f(2, 4, 5))
    case("mv", torch.mv, f(3, 4), f(4))
    case("dot", torch.dot, f(4), f(4))
    for equation, *dims in (
        ("ij,jk->ik", (3, 4), (4, 5)),
        ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
        ("i,j->ij", (3,), (4,)),
        ("bij,bjk->ki", (2, 3, 4), (2, 4, 5)),
    ):
        case(f"einsum {equation}", lambda *t, e=equation: torch.einsum(e, *t), *(f(*d) for d in dims))
    for bias in (True, False):
        module(f"linear bias={bias}", lambda b=bias: nn.Linear(7, 5, bias=b), f(2, 3, 7))
    module("linear of a vector", lambda: nn.Linear(7, 5), f(7))
    module("linear relu residual", _Residual, f(2, 3, 7))


def _attention() -> None:
    q, k = f(2, 4, 5, 8), f(2, 4, 7, 8)
    case("attention", F.scaled_dot_product_attention, q, k, k)
    case("attention causal", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), q, q, q)
    case("attention mask", lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m), q, k, k, f(5, 7))
    case(
        "attention bool mask",
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m),
        q,
        k,
        k,
        lambda g: torch.ones(5, 7).tril().bool().logical_and(torch.arange(5)[:, None] != 2),
    )
    case("attention scale", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.2), q, k, k)
    case(
        "attention grouped",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        q,
        f(2, 2, 7, 8),
        f(2, 2, 7, 8),
    )
    case(
        "attention repeated heads",
        lambda q, k, m: F.scaled_dot_product_attention(q, _repeat_kv(k), _repeat_kv(k), attn_mask=m),
        q,
        f(2, 2, 7, 8),
        f(2, 1, 5, 7),
    )
    for rows, columns, width in ((1, 150, 64), (1, 9, 20), (3, 40, 64), (40, 40, 24), (3, 70, 288)):
        integers, scales = i(2, 2, columns, width, low=-127, high=128, dtype=torch.int8), unit(2, 2, columns)
        case(
            f"attention int8 {rows}x{columns}x{width}",
            _int8_attention,
            f(2, 6, rows, width),
            integers,
            integers,
            scales,
            scales,
        )
    case("attention rank 3", F.scaled_dot_product_attention, f(2, 5, 8), f(2, 7, 8), f(2, 7, 3))


def _int8_attention(q: Tensor, k: Tensor, v: Tensor, key_scales: Tensor, value_scales: Tensor) -> Tensor:
    k, v = dequantized_rows(k, key_scales * 0.02, q.dtype), dequantized_rows(v, value_scales, q.dtype)
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True, is_causal=q.shape[2] == k.shape[2])


def _repeat_kv(x: Tensor) -> Tensor:
    n, h, s, d = x.shape
    return x[:, :, None].expand(n, h, 2, s, d).reshape(n, h * 2, s, d)


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(7, 9), nn.Linear(9, 7)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(x)) * 0.5)


def _convs() -> None:
    for name, make, shape in (
        ("conv2d", lambda: nn.Conv2d(3, 4, 3), (2, 3, 7, 8)),
        ("conv2d all", lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (2, 3), groups=2, bias=False), (2, 4, 9, 11)),
        ("conv2d two filters a channel", lambda: nn.Conv2d(5, 10, 3, 2, 1, groups=5), (2, 5, 9, 11)),
        ("conv2d depthwise", lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4), (1, 4, 5, 6)),
        ("conv2d same", lambda: nn.Conv2d(3, 4, (4, 3), padding="same"), (1, 3, 6, 5)),
        ("conv2d valid", lambda: nn.Conv2d(3, 4, 2, padding="valid"), (1, 3, 6, 5)),
        ("conv2d unbatched", lambda: nn.Conv2d(3, 4, 3), (3, 6, 5)),
        ("conv2d reflect", lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (1, 3, 6, 5)),
        ("conv1d", lambda: nn.Conv1d(3, 4, 3, 2, 1), (2, 3, 9)),
        ("conv3d", lambda: nn.Conv3d(2, 3, 2, padding=1), (1, 2, 3, 4, 5)),
        ("conv_transpose1d", lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2), (2, 4, 5)),
        ("conv_transpose2d", lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1), (2, 3, 4, 5)),
        ("conv_transpose2d dilated", lambda: nn.ConvTranspose2d(4, 4, 3, 2, 0, groups=2, dilation=2), (1, 4, 4, 5)),
        ("conv_transpose3d", lambda: nn.ConvTranspose3d(2, 3, 2, 2), (1, 2, 2, 3, 2)),
    ):
        module(name, make, f(*shape))
    for bias in (True, False):
        module(
            f"conv bn relu bias={bias}",
            lambda b=bias: nn.Sequential(nn.Conv2d(3, 4, 3, bias=b), nn.BatchNorm2d(4), nn.ReLU()),
            f(2, 3, 6, 7),
        )
    module(
        "conv_transpose bn",
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)),
        f(1, 4, 4, 5),
    )
    module("conv shared by bn", _SharedConv, f(1, 3, 5, 5))
    module("conv relu6 residual", _ConvResidual, f(2, 3, 5, 6))


class _SharedConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) + y


class _ConvResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.scale = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.scale(x.mean((2, 3)))[:, :, None, None].sigmoid()
        return F.relu6(self.bn(self.conv(x)) * gate + x)


def _pools() -> None:
    x = f(2, 3, 9, 7)
    table: dict[str, Callable[[Tensor], Any]] = {
        "max_pool2d": lambda x: F.max_pool2d(x, 3, 2, 1),
        "max_pool2d dilated": lambda x: F.max_pool2d(x, 2, 1, 0, 2),
        "max_pool2d ceil": lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True),
        "max_pool2d indices": lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True),
        "avg_pool2d": lambda x: F.avg_pool2d(x, 3, 2, 1),
        "avg_pool2d no padding": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        "avg_pool2d ceil": lambda x: F.avg_pool2d(x, (2, 3), 2, (0, 1), ceil_mode=True),
        "avg_pool2d divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
        "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
        "adaptive_avg_pool2d 1": lambda x: F.adaptive_avg_pool2d(x, 1),
        "adaptive_avg_pool2d up": lambda x: F.adaptive_avg_pool2d(x, (11, None)),
        "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 4),
        "adaptive_max_pool2d indices": lambda x: F.adaptive_max_pool2d(x, 4, return_indices=True),
        "unbatched": lambda x: F.max_pool2d(x[0], 2),
    }
    for name, function in table.items():
        case(name, function, x)
    case("max_pool2d special", lambda x: F.max_pool2d(x, 2), special(1, 1, 4, 6))
    case("max_pool1d", lambda x: F.max_pool1d(x, 3, 2), f(2, 3, 9))
    case("max_pool3d", lambda x: F.max_pool3d(x, 2), f(1, 2, 4, 5, 6))
    case("avg_pool1d", lambda x: F.avg_pool1d(x, 3, 2, 1), f(2, 3, 9))
    case("avg_pool3d", lambda x: F.avg_pool3d(x, 2), f(1, 2, 4, 5, 6))
    case("adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x, 4), f(2, 3, 9))
    case("adaptive_avg_pool3d", lambda x: F.adaptive_avg_pool3d(x, 2), f(1, 2, 3, 5, 4))
    case("adaptive_max_pool1d", lambda x: F.adaptive_max_pool1d(x, 4), f(2, 3, 9))


def _norms() -> None:
    module("batch_norm", lambda: nn.BatchNorm2d(3), f(2, 3, 4, 5))
    module("batch_norm plain", lambda: nn.BatchNorm2d(3, affine=False), f(2, 3, 4, 5))
    module("batch_norm of rows", lambda: nn.BatchNorm1d(3), f(4, 3))
    module("batch_norm of the batch", lambda: nn.BatchNorm2d(3, track_running_stats=False), f(2, 3, 4, 5))
    module("layer_norm", lambda: nn.LayerNorm((4, 5)), f(2, 3, 4, 5))
    module("layer_norm no bias", lambda: nn.LayerNorm(5, bias=False), f(3, 5))
    module("layer_norm plain", lambda: nn.LayerNorm(5, elementwise_affine=False), f(3, 5))
    module("layer_norm channels first", _ChannelsFirst, f(2, 5, 3, 4))
    module("group_norm", lambda: nn.GroupNorm(2, 6), f(2, 6, 5))
    module("instance_norm", lambda: nn.InstanceNorm2d(3, affine=True), f(2, 3, 4, 5))
    module("instance_norm plain", lambda: nn.InstanceNorm2d(3), f(2, 3, 4, 5))
    module("instance_norm running", lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True), f(2, 3, 4, 5))
    module("rms_norm", lambda: nn.RMSNorm(5), f(3, 5))
    module("rms_norm eps", lambda: nn.RMSNorm(5, eps=0.1), f(3, 5, scale=0.3))
    case("rms by hand", lambda x, w: w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)), f(2, 3, 8), f(8))
    for name in ("softmax", "log_softmax"):
        for dim in (0, 1, -1):
            case(f"{name} {dim}", lambda x, n=name, d=dim: getattr(F, n)(x, d), f(3, 4, 5))
    case(
        "softmax float of half",
        lambda x: F.softmax(x, -1, dtype=torch.float32).to(torch.float16),
        lambda g: f(3, 5)(g).half(),
    )
    case("softmin", lambda x: F.softmin(x, 1), f(3, 4))
    case("normalize", lambda x: F.normalize(x, dim=1), f(3, 4))


class _ChannelsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


for _family in (_matmuls, _attention, _convs, _pools, _norms):
    _family()
