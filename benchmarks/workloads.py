"""What ``bench_models.py`` times: image models of torchvision and timm, and encoders of text, with seeded weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TEXT_LENGTH = 128
# The encoders' published base sizes are the defaults of their configurations.
ENCODERS = {
    "bert_base": ("BertModel", "BertConfig", {}),
    "roberta_base": ("RobertaModel", "RobertaConfig", {"vocab_size": 50265}),
    "distilbert_base": ("DistilBertModel", "DistilBertConfig", {}),
    "mpnet_base": ("MPNetModel", "MPNetConfig", {}),
    "electra_small": ("ElectraModel", "ElectraConfig", {}),
    "minilm_l6": (
        "BertModel", "BertConfig",
        {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Workload:
    model: Any  # torch.nn.Module, which takes the inputs by position
    inputs: dict[str, Any]  # NumPy arrays


def workload(case: str, batch: int) -> Workload:
    """A model of torchvision by its name, "timm/NAME", or one of ENCODERS."""
    import numpy as np

    from tests.models.zoo import torchvision_compat  # noqa: F401 - before timm and transformers import torchvision

    random = np.random.default_rng(1)
    if case in ENCODERS:
        ids = random.integers(1000, 30000, (batch, TEXT_LENGTH))
        return Workload(_encoder(case), {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    model = _timm(case.removeprefix("timm/")) if case.startswith("timm/") else _torchvision(case)
    channels, height, width = getattr(model, "default_cfg", {}).get("input_size", (3, 224, 224))
    return Workload(model, {"x": random.standard_normal((batch, channels, height, width)).astype(np.float32)})


def _torchvision(name: str) -> Any:
    from tests.models.zoo import image_models

    return image_models.build(name)


def _timm(name: str) -> Any:
    import timm

    return _seeded(lambda: timm.create_model(name, pretrained=False))


def _encoder(case: str) -> Any:
    import torch
    import transformers

    class States(torch.nn.Module):
        """The last hidden states alone: what all peers compute."""

        def __init__(self) -> None:
            super().__init__()
            model, config, settings = ENCODERS[case]
            self.encoder = getattr(transformers, model)(getattr(transformers, config)(**settings))

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
            return states

    return _seeded(States)


def _seeded(build: Callable[[], Any]) -> Any:
    from tests.support.weights import build_seeded

    return build_seeded(build).requires_grad_(False)
