"""One small variant of every family of timm: published code, with fewer and narrower blocks where that is an option."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from .harness import ZooEntry

Variant = tuple[str, int, dict[str, Any]]


def _vit(size: int = 64, **settings: Any) -> dict[str, Any]:
    return {"img_size": size, "embed_dim": 64, "depth": 2, "num_heads": 4, **settings}


VARIANTS: dict[str, Variant] = {
    "beit": ("beit_base_patch16_224", 64, _vit()),
    "byoanet": ("halonet26t", 256, {}),
    "byobnet": ("mobileone_s0", 64, {}),
    "cait": ("cait_xxs24_224", 64, _vit()),
    "coat": ("coat_lite_tiny", 64, {"img_size": 64}),
    "convit": ("convit_tiny", 64, {"img_size": 64, "depth": 3, "local_up_to_layer": 2}),
    "convmixer": ("convmixer_768_32", 64, {}),
    "convnext": ("convnext_atto", 64, {}),
    "crossvit": ("crossvit_tiny_240", 240, {}),
    "csatv2": ("csatv2", 512, {}),
    "cspnet": ("cs3darknet_focus_s", 64, {}),
    "davit": ("davit_tiny", 64, {}),
    "deit": ("deit_tiny_distilled_patch16_224", 64, _vit()),
    "densenet": ("densenet121", 64, {}),
    "dla": ("dla46_c", 64, {}),
    "dpn": ("dpn48b", 64, {}),
    "edgenext": ("edgenext_xx_small", 64, {}),
    "efficientformer": ("efficientformer_l1", 224, {}),
    "efficientformer_v2": ("efficientformerv2_s0", 224, {}),
    "efficientnet": ("efficientnet_b0", 64, {}),
    "efficientvit_mit": ("efficientvit_b0", 64, {}),
    "efficientvit_msra": ("efficientvit_m0", 224, {}),
    "eva": ("eva02_tiny_patch14_224", 56, _vit(56)),
    "fasternet": ("fasternet_t0", 64, {}),
    "fastvit": ("fastvit_t8", 64, {}),
    "focalnet": ("focalnet_tiny_srf", 64, {}),
    "gcvit": ("gcvit_xxtiny", 224, {}),
    "gemma4_vit": ("gemma4_vit_167m", 224, {}),
    "ghostnet": ("ghostnet_050", 64, {}),
    "hardcorenas": ("hardcorenas_a", 64, {}),
    "hgnet": ("hgnetv2_b0", 64, {}),
    "hiera": ("hiera_tiny_224", 224, {"img_size": (224, 224)}),
    "hieradet_sam2": ("hieradet_small", 256, {}),
    "hrnet": ("hrnet_w18_small", 64, {}),
    "inception_next": ("inception_next_atto", 64, {}),
    "inception_resnet_v2": ("inception_resnet_v2", 96, {}),
    "inception_v3": ("inception_v3", 96, {}),
    "inception_v4": ("inception_v4", 96, {}),
    "levit": ("levit_128s", 224, {}),
    "mambaout": ("mambaout_femto", 64, {}),
    "maxxvit": ("maxxvit_rmlp_nano_rw_256", 256, {}),
    "metaformer": ("poolformer_s12", 64, {}),
    "mlp_mixer": ("mixer_s32_224", 64, {"img_size": 64}),
    "mobilenetv3": ("mobilenetv3_small_050", 64, {}),
    "mobilenetv5": ("mobilenetv5_300m", 256, {}),
    "mobilevit": ("mobilevit_xxs", 64, {}),
    "mvitv2": ("mvitv2_tiny", 64, {"img_size": 64}),
    "naflexvit": ("naflexvit_base_patch16_gap", 256, {"depth": 2, "embed_dim": 64, "num_heads": 4}),
    "nasnet": ("nasnetalarge", 96, {}),
    "nest": ("nest_tiny", 64, {"img_size": 64}),
    "nextvit": ("nextvit_small", 64, {}),
    "nfnet": ("nf_resnet26", 64, {}),
    "pit": ("pit_ti_224", 64, {"img_size": 64}),
    "pnasnet": ("pnasnet5large", 96, {}),
    "pvt_v2": ("pvt_v2_b0", 64, {}),
    "rdnet": ("rdnet_tiny", 64, {}),
    "regnet": ("regnetx_002", 64, {}),
    "repghost": ("repghostnet_050", 64, {}),
    "repvit": ("repvit_m0_9", 64, {}),
    "res2net": ("res2net50_14w_8s", 64, {}),
    "resnest": ("resnest14d", 64, {}),
    "resnet": ("resnet10t", 64, {}),
    "resnetv2": ("resnetv2_18", 64, {}),
    "rexnet": ("rexnet_100", 64, {}),
    "selecsls": ("selecsls42", 64, {}),
    "senet": ("legacy_seresnet18", 64, {}),
    "sequencer": ("sequencer2d_s", 64, {}),
    "shvit": ("shvit_s1", 64, {}),
    "sknet": ("skresnet18", 64, {}),
    "starnet": ("starnet_s050", 64, {}),
    "swiftformer": ("swiftformer_xs", 64, {}),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 224, {}),
    "swin_transformer_v2": ("swinv2_tiny_window8_256", 256, {}),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 224, {}),
    "tiny_vit": ("tiny_vit_5m_224", 224, {}),
    "tnt": ("tnt_s_patch16_224", 224, {}),
    "tresnet": ("tresnet_m", 64, {}),
    "twins": ("twins_svt_small", 64, {"img_size": 64}),
    "vgg": ("vgg11_bn", 64, {}),
    "visformer": ("visformer_tiny", 96, {"img_size": 96}),
    "vision_transformer": ("vit_tiny_patch16_224", 64, _vit()),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 64, _vit()),
    "vision_transformer_relpos": ("vit_relpos_small_patch16_224", 64, _vit()),
    "vision_transformer_sam": ("samvit_base_patch16_224", 224, _vit(224)),
    "vitamin": ("vitamin_small_224", 64, {"img_size": 64}),
    "volo": ("volo_d1_224", 64, {"img_size": 64}),
    "vovnet": ("ese_vovnet19b_slim_dw", 64, {}),
    "xception": ("legacy_xception", 96, {}),
    "xception_aligned": ("xception41", 64, {}),
    "xcit": ("xcit_nano_12_p16_224", 64, {}),
}
"""Of each module of ``timm.models``: the model, the side of its image, and what differs from the published one."""


UNABLE = {
    "gemma4_vit": (r"data-dependent expression", "torch.export: branches in Python on `.any()` of its padding"),
}
"""Those that cannot be done: a pattern of the failure, and why."""


def _build(name: str, settings: dict[str, Any]) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, **{"num_classes": 20, **settings})


def _image(g: torch.Generator, size: int) -> tuple[torch.Tensor]:
    return (torch.randn(1, 3, size, size, generator=g),)


def families() -> set[str]:
    """The modules of ``timm.models`` that have a model."""
    import timm

    return {timm.models._registry._model_to_module[name] for name in timm.list_models()}


ENTRIES = {
    family: ZooEntry(f"timm {name}", partial(_build, name, settings), partial(_image, size=size))
    for family, (name, size, settings) in VARIANTS.items()
}
