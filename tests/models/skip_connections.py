"""Values that bypass layers: by addition, and by concatenation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import register_model


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + x)


@register_model("DeepResNet", [(3, 32, 32)], ["skip_connections"], "Multiple residual blocks")
class DeepResNet(nn.Module):
    def __init__(self, channels: int = 32, blocks: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.blocks = nn.Sequential(*(_Residual(channels) for _ in range(blocks)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(torch.relu(self.bn(self.conv(x))))
        return self.fc(torch.flatten(self.pool(x), 1))


class _DenseLayer(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, growth, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(torch.relu(self.bn(x)))], dim=1)


@register_model("DenseBlock", [(3, 32, 32)], ["skip_connections"], "DenseNet-style connections")
class DenseBlock(nn.Module):
    def __init__(self, channels: int = 32, growth: int = 16, layers: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.layers = nn.Sequential(*(_DenseLayer(channels + i * growth, growth) for i in range(layers)))
        total = channels + layers * growth
        self.norm = nn.BatchNorm2d(total)
        self.squeeze = nn.Conv2d(total, total // 2, 1)
        self.fc = nn.Linear(total // 2, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(torch.relu(self.bn(self.conv(x))))
        x = functional.avg_pool2d(self.squeeze(torch.relu(self.norm(x))), 2)
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))
