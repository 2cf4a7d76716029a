"""Convolutions beyond the plain one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import register_model


@register_model(
    "InvertedResidual",
    [(16, 24, 24)],
    ["convolution", "skip_connections"],
    "Depthwise, squeeze-excite, grouped",
)
class InvertedResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(16, 64, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.depthwise = nn.Conv2d(64, 64, 5, padding=2, groups=64, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.reduce = nn.Conv2d(64, 16, 1)
        self.restore = nn.Conv2d(16, 64, 1)
        self.project = nn.Conv2d(64, 16, 3, padding=2, dilation=2, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.hardswish(self.bn1(self.expand(x)))
        h = functional.hardswish(self.bn2(self.depthwise(h)))
        gate = functional.hardsigmoid(self.restore(torch.relu(self.reduce(h.mean((2, 3), keepdim=True)))))
        return x + self.project(h * gate)


@register_model("UNet", [(3, 32, 32)], ["convolution", "skip_connections"], "Encoder and decoder with resizing")
class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 16, 3, padding="same", padding_mode="reflect")
        self.norm = nn.GroupNorm(4, 16)
        self.down = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(32, 32, 3, padding=1)
        self.instance = nn.InstanceNorm2d(32, affine=False)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.leave = nn.Conv2d(32, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        top = functional.silu(self.norm(self.enter(x)))
        low = functional.leaky_relu(self.instance(self.middle(self.down(top))), inplace=True)
        mask = self.leave(torch.cat([self.up(low), top], dim=1))
        return mask, functional.interpolate(mask, scale_factor=2, mode="bilinear", align_corners=False)


@register_model("WaveStack", [(1, 200)], ["convolution", "audio"], "Dilated causal 1-d convolutions with gates")
class WaveStack(nn.Module):
    def __init__(self, channels: int = 12) -> None:
        super().__init__()
        self.enter = nn.Conv1d(1, channels, 1)
        self.gates = nn.ModuleList(nn.Conv1d(channels, 2 * channels, 3, dilation=2**i) for i in range(3))
        self.leave = nn.Conv1d(channels, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        skips = []
        for i, gate in enumerate(self.gates):
            value, control = gate(functional.pad(h, (2 ** (i + 1), 0))).chunk(2, dim=1)
            skips.append(value.tanh() * control.sigmoid())
            h = h + skips[-1]
        return functional.log_softmax(self.leave(torch.stack(skips).sum(0)), dim=1)
