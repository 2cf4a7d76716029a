"""torchvision's classifiers, with random weights, on images as small as each network takes."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from .harness import ZooEntry

_SMALL = 64


def _build(name: str, settings: dict[str, Any]) -> nn.Module:
    from torchvision import models

    return models.get_model(name, weights=None, **settings)


def _image(g: torch.Generator, size: int) -> tuple[torch.Tensor]:
    return (torch.randn(1, 3, size, size, generator=g),)


def _small(name: str, size: int = _SMALL, *, meta_device: bool = True, **settings: Any) -> ZooEntry:
    settings = {"num_classes": 20, **settings}
    build = partial(_build, name, settings)
    return ZooEntry(name, build, partial(_image, size=size), meta_device=meta_device)


def _full(name: str, size: int = 224, *, meta_device: bool = True, **settings: Any) -> ZooEntry:
    build, inputs = partial(_build, name, settings), partial(_image, size=size)
    return ZooEntry(f"{name} {size}x{size}", build, inputs, slow=True, meta_device=meta_device)


def _tiny_vit(size: int) -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(
        image_size=size, patch_size=16, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=20
    )


def _tiny_swin(block: str) -> nn.Module:
    from torchvision.models import swin_transformer as swin

    return swin.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=32,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=[4, 4],
        num_classes=20,
        block=getattr(swin, block),
        downsample_layer=swin.PatchMergingV2 if block.endswith("V2") else swin.PatchMerging,
    )


def _tiny_maxvit(size: int) -> nn.Module:
    from torchvision.models.maxvit import MaxVit

    return MaxVit(
        input_size=(size, size),
        stem_channels=16,
        block_channels=[16, 32],
        block_layers=[1, 1],
        head_dim=8,
        stochastic_depth_prob=0.1,
        partition_size=4,
        num_classes=20,
    )


# Initialising these takes minutes in SciPy otherwise; the default initialisation is as random.
_PLAIN_INIT: dict[str, Any] = {"init_weights": False}
# RegNet plans its widths with tensors, which on meta have no values.
_WIDTHS_FROM_TENSORS: dict[str, Any] = {"meta_device": False}

ENTRIES = [
    _small("resnet18"),
    _small("resnet50"),
    _small("resnext50_32x4d"),
    _small("wide_resnet50_2"),
    _small("vgg11_bn", dropout=0.1),
    _small("alexnet"),
    _small("squeezenet1_1"),
    _small("densenet121"),
    _small("googlenet", **_PLAIN_INIT),
    _small("inception_v3", 80, **_PLAIN_INIT),
    _small("mobilenet_v2"),
    _small("mobilenet_v3_small"),
    _small("efficientnet_b0"),
    _small("efficientnet_v2_s"),
    _small("convnext_tiny"),
    _small("regnet_y_400mf", **_WIDTHS_FROM_TENSORS),
    _small("regnet_x_400mf", **_WIDTHS_FROM_TENSORS),
    _small("mnasnet0_5"),
    _small("shufflenet_v2_x1_0"),
    ZooEntry("swin (4 layers)", partial(_tiny_swin, "SwinTransformerBlock"), partial(_image, size=_SMALL)),
    ZooEntry("swin_v2 (4 layers)", partial(_tiny_swin, "SwinTransformerBlockV2"), partial(_image, size=_SMALL)),
    ZooEntry("vit (3 layers)", partial(_tiny_vit, _SMALL), partial(_image, size=_SMALL)),
    ZooEntry("maxvit (2 blocks)", partial(_tiny_maxvit, _SMALL), partial(_image, size=_SMALL)),
]
FULL_SIZE = [
    _full("resnet18"),
    _full("resnet50"),
    _full("resnet152"),
    _full("resnext101_32x8d"),
    _full("vgg16"),
    _full("vgg19_bn"),
    _full("alexnet"),
    _full("densenet201"),
    _full("googlenet", **_PLAIN_INIT),
    _full("inception_v3", 299, **_PLAIN_INIT),
    _full("mobilenet_v3_large"),
    _full("efficientnet_b4", 380),
    _full("efficientnet_v2_m", 384),
    _full("convnext_base"),
    _full("regnet_y_16gf", **_WIDTHS_FROM_TENSORS),
    _full("mnasnet1_3"),
    _full("shufflenet_v2_x2_0"),
    _full("vit_b_16"),
    _full("swin_b"),
    _full("swin_v2_b", 256),
    _full("maxvit_t"),
]
