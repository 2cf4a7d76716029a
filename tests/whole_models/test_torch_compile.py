"""Models of torchvision, timm and transformers through ``torch.compile(backend="npu")``, whole on the device."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from npu.dynamo.notices import HostWarning
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.models.zoo import huggingface_models, timm_models, torchvision_models
from tests.models.zoo.decoding import tiny_qwen2
from tests.models.zoo.harness import ZooEntry
from tests.support import numbers
from tests.support.calls import call, call_exactly
from tests.support.devices import chosen_device
from tests.support.weights import build_seeded
from tests.whole_models.families import CLOSE, LIMIT

TORCHVISION = ("alexnet", "densenet121", "efficientnet_b0", "mnasnet0_5", "mobilenet_v2", "regnet_y_400mf",
               "resnet18", "shufflenet_v2_x1_0", "squeezenet1_1", "vgg11_bn")  # fmt: skip
TIMM = ("beit", "convnext", "deit", "ghostnet", "levit", "metaformer", "mlp_mixer", "resnest", "vision_transformer",
        "vitamin")  # fmt: skip
TRANSFORMERS = ("Bert", "Beit", "Gemma", "GPTNeoX", "Llama", "Qwen2", "T5", "ViT", "XLMRoberta",
                "Llama, cache in and out")  # fmt: skip
QUICK = ("Bert", "deit")


def _entries() -> dict[str, ZooEntry]:
    torchvision = {entry.name: entry for entry in torchvision_models.ENTRIES}
    transformers = {entry.name: entry for entry in huggingface_models.ENTRIES}
    chosen = {name: torchvision[name] for name in TORCHVISION}
    chosen |= {name: timm_models.ENTRIES[name] for name in TIMM}
    return chosen | {name: transformers[name] for name in TRANSFORMERS}


ENTRIES = _entries()


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="npu", options={"device": chosen_device(), "fallback": "error"})


def check_close(name: str, got: list[Tensor], own: list[Tensor], exact: list[Tensor]) -> None:
    assert len(got) == len(own) == len(exact) > 0
    for mine, torchs, reference in zip(got, own, exact, strict=True):
        assert (mine.dtype, mine.shape, mine.stride()) == (torchs.dtype, torchs.shape, torchs.stride())
        if not torchs.is_floating_point():
            assert torch.equal(mine, torchs), name
            continue
        error, limit = numbers.error(mine, reference), min(LIMIT, max(CLOSE, 3 * numbers.error(torchs, reference)))
        assert error <= limit, f"{name}: error {error:.3g}, allowed {limit:.3g}"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ENTRIES]
)
def test_models(name: str) -> None:
    """Twice: the second call meets the graphs and the parameters of the first."""
    entry = ENTRIES[name]
    model, inputs = build_seeded(entry.build), entry.example(torch.float32, seed=1)
    own = call(model, inputs)
    run = compiled(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # models warn about their own code
        warnings.simplefilter("error", HostWarning)
        results = [call(run, inputs), call(run, inputs)]
    exact = call_exactly(copy.deepcopy(model), inputs)
    for got in results:
        check_close(name, got, own, exact)


@pytest.mark.slow
def test_generation_with_its_own_loop() -> None:
    """transformers' own ``generate``: Python decides when to stop, and a cache grows at every step."""
    model = tiny_qwen2().eval()
    settings: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    prompt = torch.tensor([[3, 14, 15, 9, 2]])
    wanted = model.generate(prompt, **settings)
    model.forward = compiled(model.forward)
    assert torch.equal(model.generate(prompt, **settings), wanted)
