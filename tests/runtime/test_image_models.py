"""Whole image models on the device, without the host, against PyTorch in float64."""

from __future__ import annotations

import copy
from typing import Any

import npu_compiler
import pytest
import torch
from npu_runtime import Device, Executor, load_weights
from torch_ir import extract_ir

from tests.runtime import numbers
from tests.runtime.models import BUILDERS, build, images

FAST = ("resnet18", "mobilenet_v3_small", "squeezenet1_0", "unet", "shufflenet_v2_x1_0")


def first_tensor(output: Any) -> torch.Tensor:
    return output["out"] if isinstance(output, dict) else output


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in BUILDERS])
def test_model_agrees_with_float64(name: str, batch: int) -> None:
    model, x = build(name), images(name, batch)
    with torch.no_grad():
        torchs = first_tensor(model(x))
        exact = first_tensor(copy.deepcopy(model).double()(x.double()))
    program = npu_compiler.compile(extract_ir(model, x))
    device = Device("cpu")
    executor = Executor(program, device)
    weights = load_weights(model.state_dict(), program, device)
    outputs = executor.run({program.input_specs[0].name: x}, weights)
    numbers.check(outputs[program.output_specs[0].name].to_numpy(), exact, torchs, name)


def test_resnet_has_the_same_top_five() -> None:
    model = build("resnet18")
    x = torch.randn(1, 3, 96, 96)
    program = npu_compiler.compile(extract_ir(model, x))
    device = Device("cpu")
    executor = Executor(program, device)
    weights = load_weights(model.state_dict(), program, device)
    generator = torch.Generator().manual_seed(5)
    for _ in range(50):
        x = torch.randn(1, 3, 96, 96, generator=generator)
        with torch.no_grad():
            expected = model(x).topk(5).indices
        logits = torch.from_dlpack(
            executor.run({program.input_specs[0].name: x}, weights)[program.output_specs[0].name]
        )
        assert torch.equal(logits.topk(5).indices, expected)
