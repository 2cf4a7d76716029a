"""Sampling at places, windows, unusual pools, resizes and paddings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .making import b, case, f, i, module, positive, special, strided

MODES = ("bilinear", "nearest", "bicubic")


class _Sampled(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.conv, self.mode = nn.Conv2d(3, 16, 3), mode

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        return F.grid_sample(self.conv(x), places, self.mode, align_corners=False)


def _grids() -> None:
    """Places reach beyond the input on every side; those of ``nearest`` keep away from the middle of two cells."""
    x, places = f(2, 3, 5, 6), f(2, 4, 3, 2, scale=0.9)
    for mode in MODES:
        for padding in ("zeros", "border", "reflection"):
            for align in (False, True):
                case(
                    f"grid_sample {mode} {padding} {align}",
                    lambda x, g, m=mode, p=padding, a=align: F.grid_sample(x, g, m, p, a),
                    x,
                    places,
                )
    for mode in MODES[:2]:
        case(
            f"grid_sample 3d {mode}",
            lambda x, g, m=mode: F.grid_sample(x, g, m, align_corners=False),
            f(1, 2, 3, 4, 5),
            f(1, 2, 3, 2, 3, scale=0.9),
        )
    case("grid_sample far away", lambda x, g: F.grid_sample(x, g, padding_mode="reflection", align_corners=True), x,
         f(2, 3, 3, 2, scale=9.0))  # fmt: skip
    case("grid_sample strided", lambda x, g: F.grid_sample(x, g, align_corners=False), strided(2, 3, 4, 5),
         strided(2, 3, 4, 2))  # fmt: skip
    case("grid_sample single cell", lambda x, g: F.grid_sample(x, g, padding_mode="reflection", align_corners=True),
         f(1, 2, 1, 1), f(1, 2, 2, 2))  # fmt: skip
    case("grid_sample special", lambda x, g: F.grid_sample(x, g, align_corners=False), special(1, 1, 4, 4),
         lambda g: torch.tensor([[[[-3.0, 0.0], [0.3, 0.2], [3.0, 3.0]]]]))  # fmt: skip
    case("grid_sample of many places", lambda x, g: F.grid_sample(x, g, align_corners=False), f(1, 3, 9, 8),
         f(1, 40, 41, 2, scale=0.6))  # fmt: skip
    for mode in MODES:
        case(f"grid_sample channels last {mode}", lambda x, g, m=mode: F.grid_sample(
            x.contiguous(memory_format=torch.channels_last), g, m, "reflection", False), f(2, 37, 4, 5),
            f(2, 3, 4, 2, scale=0.9))  # fmt: skip
        module(f"grid_sample of a convolution {mode}", lambda m=mode: _Sampled(m), f(2, 3, 6, 7), f(2, 3, 4, 2))
        for padding in ("zeros", "border", "reflection"):
            case(f"grid_sample of no place {mode} {padding}", lambda x, g, m=mode, p=padding: F.grid_sample(
                x, g, m, p, False), x, lambda g: torch.tensor([math.nan, 0, 0, math.inf, math.nan, 9, -math.inf, 0.1]
                ).view(1, 2, 2, 2).expand(2, 2, 2, 2))  # fmt: skip
    case("grid_sample of nothing", lambda x, g: F.grid_sample(x, g, align_corners=False), f(0, 2, 3, 3), f(0, 2, 2, 2))
    for align in (False, True):
        case(f"affine_grid {align}", lambda t, a=align: F.affine_grid(t, [2, 3, 4, 5], align_corners=a), f(2, 2, 3))
        case(f"affine_grid 3d {align}", lambda t, a=align: F.affine_grid(t, [1, 3, 2, 4, 5], align_corners=a),
             f(1, 3, 4))  # fmt: skip
        case(f"affine_grid thin {align}", lambda t, a=align: F.affine_grid(t, [1, 3, 1, 4], align_corners=a),
             f(1, 2, 3))  # fmt: skip
    case("spatial transformer", lambda x, t: F.grid_sample(x, F.affine_grid(t, [2, 3, 4, 4], align_corners=False),
                                                           align_corners=False), x, f(2, 2, 3, scale=0.5))  # fmt: skip


def _windows() -> None:
    case("fold", lambda x: F.fold(x, (5, 6), (2, 3), padding=1, stride=2), f(2, 18, 9))
    case("fold unbatched", lambda x: F.fold(x, (4, 4), 2, stride=2), f(8, 4))
    case("fold dilated", lambda x: F.fold(x, (7, 8), 3, dilation=2, padding=1), f(2, 18, 30))
    case("fold of unfold", lambda x: F.fold(F.unfold(x, 3, padding=1), (5, 4), 3, padding=1), f(2, 2, 5, 4))
    case("unfold unbatched", lambda x: F.unfold(x, 2), f(2, 5, 5))
    case("unfold dilated strided", lambda x: F.unfold(x, (3, 2), (2, 1), (1, 0), (1, 2)), strided(2, 3, 7, 6))
    case("unfold nothing", lambda x: F.unfold(x, 2), f(0, 2, 4, 4))
    case("max_unpool2d", lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), f(2, 2, 4, 6))
    case("max_unpool1d", lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2), f(2, 3, 6))
    case("max_unpool3d", lambda x: F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), 2), f(1, 2, 4, 2, 6))


def _pools() -> None:
    table: dict[str, tuple[Callable[[Tensor], Any], Any]] = {
        "lp_pool1d": (lambda x: F.lp_pool1d(x, 2, 3), positive(2, 3, 9)),
        "lp_pool2d": (lambda x: F.lp_pool2d(x, 2, 3, 2), positive(2, 3, 9, 7)),
        "lp_pool2d ceil": (lambda x: F.lp_pool2d(x, 1, 3, 2, ceil_mode=True), positive(2, 3, 9, 7)),
        "lp_pool3d": (lambda x: F.lp_pool3d(x, 3, 2), positive(1, 2, 4, 5, 4)),
        "max_pool1d indices": (lambda x: F.max_pool1d(x, 2, return_indices=True), f(2, 3, 9)),
        "max_pool3d indices": (lambda x: F.max_pool3d(x, (1, 2, 3), 2, (0, 1, 1), return_indices=True),
                               f(1, 2, 4, 5, 6)),
        "max_pool2d bytes": (lambda x: F.max_pool2d(x, 3, 2, 1),
                             i(2, 3, 6, 5, low=0, high=255, dtype=torch.uint8)),
        "max_pool2d strided": (lambda x: F.max_pool2d(x, (3, 1), (1, 2)), strided(2, 3, 5, 6)),
        "max_pool2d nothing": (lambda x: F.max_pool2d(x, 2), f(0, 3, 6, 5)),
        "avg_pool2d nothing": (lambda x: F.avg_pool2d(x, 2), f(0, 3, 6, 5)),
        "avg_pool2d ceil no padding": (lambda x: F.avg_pool2d(x, 3, 2, 1, True, False), f(2, 3, 8, 6)),
        "avg_pool3d divisor": (lambda x: F.avg_pool3d(x, 2, ceil_mode=True, divisor_override=3), f(2, 4, 5, 6)),
        "adaptive_max_pool3d": (lambda x: F.adaptive_max_pool3d(x, (2, 3, 1), return_indices=True), f(1, 2, 3, 5, 4)),
        "adaptive_max_pool1d": (lambda x: F.adaptive_max_pool1d(x, 5, return_indices=True), strided(2, 3, 8)),
        "adaptive_avg_pool3d up": (lambda x: F.adaptive_avg_pool3d(x, (None, 7, 2)), f(2, 3, 5, 4)),
    }  # fmt: skip
    for name, (function, maker) in table.items():
        case(name, function, maker)
    case("max_pool2d of int64", lambda x: F.max_pool2d(x, 2), i(1, 2, 4, 4), refused="pooling of int64")
    case("fractional_max_pool2d", lambda x: F.fractional_max_pool2d(x, 2, output_size=3), f(1, 2, 7, 7),
         refused="it draws random numbers")  # fmt: skip


def _resizes() -> None:
    x = f(2, 3, 5, 6)
    case("interpolate area", lambda x: F.interpolate(x, (3, 4), mode="area"), x)
    case("interpolate area 1d", lambda x: F.interpolate(x, 4, mode="area"), f(1, 2, 9))
    case("interpolate area 3d", lambda x: F.interpolate(x, (2, 3, 2), mode="area"), f(1, 2, 4, 4, 4))
    for mode in ("nearest", "bilinear", "bicubic"):
        case(
            f"interpolate {mode} recomputed",
            lambda x, m=mode: F.interpolate(x, scale_factor=(1.5, 0.7), mode=m, recompute_scale_factor=True),
            x,
        )
    case("interpolate trilinear corners", lambda x: F.interpolate(x, (3, 5, 2), mode="trilinear", align_corners=True),
         f(1, 2, 3, 4, 3))  # fmt: skip
    case("interpolate nothing", lambda x: F.interpolate(x, (5, 4)), f(0, 3, 4, 4))
    case("interpolate strided", lambda x: F.interpolate(x, (4, 9), mode="bilinear"), strided(2, 3, 5, 4))
    case("interpolate to one", lambda x: F.interpolate(x, (1, 1), mode="bilinear", align_corners=True), x)
    case("interpolate from one", lambda x: F.interpolate(x, (3, 2), mode="bicubic"), f(1, 2, 1, 1))
    case("interpolate bytes", lambda x: F.interpolate(x, (5, 7)), i(1, 3, 4, 4, low=0, high=255, dtype=torch.uint8))
    case("interpolate antialiased bicubic", lambda x: F.interpolate(x, (3, 3), mode="bicubic", antialias=True), x,
         refused="antialiased resizing; .* antialias=False")  # fmt: skip
    case("interpolate antialiased", lambda x: F.interpolate(x, (3, 3), mode="bilinear", antialias=True), x,
         refused="antialiased resizing; resize before")  # fmt: skip


def _pads() -> None:
    for mode in ("reflect", "replicate", "circular"):
        case(f"pad 1d {mode}", lambda x, m=mode: F.pad(x, (2, 1), m), f(2, 3, 5))
        case(f"pad 3d {mode}", lambda x, m=mode: F.pad(x, (1, 1, 1, 0, 0, 1), m), f(1, 2, 3, 4, 3))
        case(f"pad unbatched {mode}", lambda x, m=mode: F.pad(x, (2, 1), m), f(3, 5))
        case(f"pad strided {mode}", lambda x, m=mode: F.pad(x, (2, 1, 0, 1), m), strided(2, 3, 4, 5))
        case(f"pad negative {mode}", lambda x, m=mode: F.pad(x, (2, -1), m), f(2, 3, 5), refused="negative padding")
    case("pad bools", lambda x: F.pad(x, (1, 2), value=True), b(3, 4))
    case("pad of rank 1", lambda x: F.pad(x, (2, 3), value=-1.5), f(4))
    case("pad every dimension", lambda x: F.pad(x, (1, 0, 0, 2, 1, 1, 2, 0)), f(2, 3, 2, 3))
    case("pad an empty one", lambda x: F.pad(x, (1, 2)), f(3, 0))
    module("zero pad", lambda: nn.ZeroPad2d((1, 2, 0, 1)), f(1, 2, 3, 4))


for _family in (_grids, _windows, _pools, _resizes, _pads):
    _family()
