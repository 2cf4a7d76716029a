"""Image models at their full size: seeded weights, batch-norm statistics as after training."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchvision.models as tv
from torch import nn

from tests.support.weights import build_seeded

CLASSIFIERS = (
    "resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "vgg16_bn", "alexnet", "squeezenet1_0",
    "densenet121", "googlenet", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0",
    "mnasnet1_0", "shufflenet_v2_x1_0", "regnet_y_400mf", "convnext_tiny",
)  # fmt: skip


class UNet(nn.Module):
    """Down, up with transposed convolutions, and skips that are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 32, 64)
        self.down = nn.ModuleList(self._double(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.bottom = self._double(64, 128)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths))
        self.merge = nn.ModuleList(self._double(2 * w, w) for w in reversed(widths))
        self.head = nn.Conv2d(16, 5, 1)

    @staticmethod
    def _double(a: int, b: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
            nn.Conv2d(b, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        return self.head(x)


def _segmentation() -> nn.Module:
    return tv.segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=7)


def _googlenet() -> nn.Module:
    return tv.googlenet(weights=None, init_weights=False, aux_logits=False)


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    **{name: (lambda name=name: getattr(tv, name)(weights=None)) for name in CLASSIFIERS},
    "googlenet": _googlenet,
    "fcn_resnet50": _segmentation,
    "unet": UNet,
}
SIZES = {"fcn_resnet50": 65, "unet": 64, "alexnet": 128, "vgg16_bn": 64, "googlenet": 96, "squeezenet1_0": 96}
"""Side of the test image where the default of 64 is too small or another one is telling."""


def build(name: str) -> nn.Module:
    """One of the builders', or any other of torchvision's."""
    builder = BUILDERS.get(name) or (lambda: tv.get_model(name, weights=None))
    return build_seeded(builder).requires_grad_(False)


def images(name: str, batch: int) -> torch.Tensor:
    side = SIZES.get(name, 64)
    return torch.randn(
        batch, 3, side, side + (8 if name == "resnet18" else 0), generator=torch.Generator().manual_seed(2)
    )
