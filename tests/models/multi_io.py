"""Several inputs, several outputs."""

from __future__ import annotations

from torch import Tensor, nn

from .base import register_model


@register_model(
    "SiameseEncoder",
    [(3, 64, 64), (3, 64, 64)],
    ["multi_io", "shared_weights"],
    "Apply same encoder to two images",
)
class SiameseEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 128, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, 128),
        )

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(left), self.encoder(right)


@register_model("MultiTaskHead", [(3, 32, 32)], ["multi_io"], "Shared backbone + multi-output heads")
class MultiTaskHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 512),
            nn.ReLU(),
        )
        self.classes = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10))
        self.box = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 5))
        self.score = nn.Linear(512, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.backbone(x)
        return self.classes(features), self.box(features), self.score(features)
