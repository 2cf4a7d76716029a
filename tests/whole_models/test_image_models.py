"""Whole image models on the device, without the host, against PyTorch in float64."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import npu
import npu_compiler
import pytest
import torch
from npu_runtime import Executor, load_weights
from torch_ir import extract_ir

from tests.models.zoo.image_models import BUILDERS, build, images
from tests.support import numbers
from tests.support.devices import device_of

FAST = ("resnet18", "mobilenet_v3_small", "squeezenet1_0", "unet", "shufflenet_v2_x1_0")


def first_tensor(output: Any) -> torch.Tensor:
    return output["out"] if isinstance(output, dict) else output


FAST_ON_METAL = ("mobilenet_v3_small", "unet")
MODELS = [
    pytest.param(name, kind, batch, id=f"{name}-{kind}-{batch}", marks=() if name in fast else pytest.mark.slow)
    for kind, batch, fast in (("chosen", 1, FAST), ("chosen", 3, FAST), ("metal", 2, FAST_ON_METAL))
    for name in BUILDERS
]


@pytest.mark.parametrize(("name", "kind", "batch"), MODELS)
def test_model_agrees_with_float64(name: str, kind: str, batch: int) -> None:
    model, x = build(name), images(name, batch)
    with torch.no_grad():
        torchs = first_tensor(model(x))
        exact = first_tensor(copy.deepcopy(model).double()(x.double()))
    program = npu_compiler.compile(extract_ir(model, x))
    device = device_of(kind)
    executor = Executor(program, device)
    weights = load_weights(model.state_dict(), program, device)
    outputs = executor.run({program.input_specs[0].name: x}, weights)
    numbers.check(outputs[program.output_specs[0].name].to_numpy(), exact, torchs, name)


HALF = ("resnet18", "unet")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", HALF)
def test_model_in_half_precision(name: str, dtype: torch.dtype) -> None:
    """As close to float64 as PyTorch is whose whole model is cast."""
    model, x = build(name), images(name, 2)
    compiled = npu.compile(model, x, compute_dtype=dtype)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(x.double())
        torchs = copy.deepcopy(model).to(dtype)(x.to(dtype))
    got = compiled(x)
    assert got.dtype == torch.float32
    ours, limit = numbers.error(got, exact), numbers.allowed(numbers.error(torchs, exact), dtype)
    assert 1e-5 < ours <= limit, f"{name}: error {ours:.3g}, allowed {limit:.3g}"


def test_images_from_many_threads() -> None:
    model, threads = build("mobilenet_v3_small"), 16
    compiled = npu.compile(model, images("mobilenet_v3_small", 1))
    batches = [torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(threads)]
    with torch.no_grad():
        wanted = [model(x) for x in batches]
    with ThreadPoolExecutor(threads) as pool:
        for got, own in zip(pool.map(compiled, batches * 3), wanted * 3, strict=True):
            torch.testing.assert_close(got, own, rtol=1e-3, atol=1e-4)


TOP_FIVE = [
    ("resnet18", 64, "chosen"),
    *(pytest.param(n, 224, "chosen", marks=pytest.mark.slow) for n in ("resnet18", "resnet50")),
]


@pytest.mark.parametrize(("name", "side", "kind"), TOP_FIVE)
def test_resnet_has_the_same_top_five(name: str, side: int, kind: str) -> None:
    model = build(name)
    x = torch.randn(1, 3, side, side)
    program = npu_compiler.compile(extract_ir(model, x))
    device = device_of(kind)
    executor = Executor(program, device)
    weights = load_weights(model.state_dict(), program, device)
    generator = torch.Generator().manual_seed(5)
    for _ in range(50):
        x = torch.randn(1, 3, side, side, generator=generator)
        with torch.no_grad():
            expected = model(x).topk(5).indices
        outputs = executor.run({program.input_specs[0].name: x}, weights)
        logits = torch.from_dlpack(outputs[program.output_specs[0].name]).cpu()
        assert torch.equal(logits.topk(5).indices, expected)


@pytest.mark.slow
def test_resnet18_at_full_size_on_metal() -> None:
    model, x = build("resnet18"), torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        own, exact = model(x), copy.deepcopy(model).double()(x.double())
    compiled = npu.compile(model, x, device=device_of("metal"))
    numbers.check(compiled(x), exact, own, "resnet18")
