"""Norms that Metal does on the way of the product that reads them, in whole programs, against PyTorch in float64."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any

import npu_compiler
import pytest
import torch
from npu_runtime import Device, Executor, Profiler, load_weights
from torch import nn
from torch_ir import extract_ir

from tests.ops.test_execution import cast
from tests.support import numbers
from tests.support.devices import metal_device

# Each kernel is compiled when it is first met, so the default tier takes one dtype.
DTYPES = [torch.bfloat16, *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in (torch.float32, torch.float16))]


@pytest.fixture(scope="module")
def device() -> Device:
    return metal_device()


class Normed(nn.Module):
    """A product of normalised rows, with what a test does to the rows before and after the norm."""

    def __init__(self, norm: nn.Module, width: int, columns: int, before: Any = None, after: Any = None) -> None:
        super().__init__()
        self.norm, self.product = norm, nn.Linear(width, columns)
        self.before, self.after = before or (lambda x: x), after or (lambda x: x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product(self.after(self.norm(self.before(x))))


class Gated(nn.Module):
    """As decoders have it: a norm, a gate with what it lets through, and the way around."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


@dataclass
class Model:
    build: Any
    shape: tuple[int, ...]
    kernel: str


RMS, LAYER = "norm[rms] + matmul[rows", "norm[layer] + matmul[rows"
MODELS = {
    "a row": Model(lambda: Normed(nn.RMSNorm(48, eps=1e-5), 48, 40), (1, 1, 48), RMS),
    "rows of odd width": Model(lambda: Normed(nn.LayerNorm(77), 77, 19), (5, 77), LAYER),
    "eight rows": Model(lambda: Normed(nn.LayerNorm(64, bias=False), 64, 130), (2, 4, 64), LAYER),
    "no weight": Model(lambda: Normed(nn.LayerNorm(33, elementwise_affine=False), 33, 9), (3, 33), LAYER),
    "the last row of many": Model(
        lambda: Normed(nn.RMSNorm(40, eps=1e-5), 40, 50, after=lambda y: y[:, -1:]), (1, 20, 40), RMS
    ),
    "every other row": Model(lambda: Normed(nn.RMSNorm(40, eps=1e-5), 40, 50, before=lambda x: x[::2]), (9, 40), RMS),
    "columns": Model(lambda: Normed(nn.LayerNorm(40), 40, 50, before=lambda x: x.T), (40, 6), LAYER),
    "two dimensions": Model(
        lambda: Normed(nn.LayerNorm((6, 8)), 48, 50, after=lambda y: y.flatten(1)), (3, 6, 8), LAYER
    ),
    "a gate": Model(lambda: Gated(48, 100), (1, 1, 48), RMS),
}


def parameters_away_from_one(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_one_launch_does_both(name: str, dtype: torch.dtype, device: Device) -> None:
    torch.manual_seed(0)
    model = parameters_away_from_one(MODELS[name].build()).to(dtype)
    x = (torch.randn(MODELS[name].shape) * 2 + 0.5).to(dtype)
    program = npu_compiler.compile(extract_ir(model, x))
    executor = Executor(program, device)
    assert MODELS[name].kernel in executor.plan()
    assert "norm" in {op["op"] for op in program.data["main"]}
    outputs = executor.run({"x": x}, load_weights(model.state_dict(), program, device))
    exact = copy.deepcopy(model).double()(cast(x, torch.float64))
    numbers.check(next(iter(outputs.values())).to_numpy(), exact, model(x), name)


def test_profiles_name_both(device: Device) -> None:
    model = parameters_away_from_one(MODELS["a row"].build())
    x = torch.randn(MODELS["a row"].shape)
    program = npu_compiler.compile(extract_ir(model, x))
    norm, product = (op["name"] for op in program.data["main"])
    profiler = Profiler(Executor(program, device))
    profiler.run({"x": x}, load_weights(model.state_dict(), program, device))
    (entry,) = profiler.summary(by="op")
    assert entry.name == f"{norm} + {product} (norm[rms] + matmul[rows])"
    (entry,) = profiler.summary()
    assert entry.name == "norm[rms] + matmul[rows]"


def test_many_rows_keep_their_norm(device: Device) -> None:
    """Threadgroups that share rows would each normalise them."""
    program = npu_compiler.compile(extract_ir(Normed(nn.LayerNorm(64), 64, 64).eval(), torch.randn(32, 64)))
    kernels = re.findall(r"^\d+  (\S+)", Executor(program, device).plan(), flags=re.MULTILINE)
    assert kernels[0] == "norm[layer]" and kernels[1].startswith("matmul[blocks")
