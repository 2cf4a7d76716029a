"""Batches whose first ops run for a few images at a time: the same numbers, whatever the ops do with images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import npu
import pytest
import torch
import torch.nn.functional as F
from npu_runtime import Profiler
from torch import nn

from tests.support import numbers


class Net(nn.Module):
    """Two convolutions with results of 0.4 MB an image, and what ``then`` makes of them."""

    def __init__(self, then: Callable[..., Any]) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 1), nn.Hardswish())
        self.norm, self.group = nn.BatchNorm2d(32), nn.GroupNorm(4, 32)
        self.squeeze, self.down = nn.Conv2d(32, 32, 1), nn.Conv2d(32, 16, 3, 2, 1, groups=16)
        self.head = nn.Linear(32, 5)
        self.then = then

    def forward(self, x: torch.Tensor) -> Any:
        return self.then(self, self.first(x))


def squeeze_excite(net: Net, y: torch.Tensor) -> torch.Tensor:
    y = y * torch.sigmoid(net.squeeze(y.mean((2, 3), keepdim=True)))
    return net.head(F.adaptive_avg_pool2d(net.norm(y), 1).flatten(1))


def joined(net: Net, y: torch.Tensor) -> torch.Tensor:
    small = F.interpolate(net.down(y), scale_factor=2.0, mode="bilinear")
    both = torch.cat([y, small, F.pad(net.group(y)[:, :8, 1:-1, 1:-1], (1, 1, 1, 1), mode="reflect")], 1)
    return F.max_pool2d(both.softmax(1), 3, 2)


def two_results(net: Net, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return y, net.norm(y).amax((2, 3)), F.layer_norm(y.permute(0, 2, 3, 1), (32,)).permute(0, 3, 1, 2)


MIXED = {
    "the mean of the batch": lambda net, y: net.norm(y - y.mean(0, keepdim=True)),
    "images backwards": lambda net, y: net.norm(y + y.flip(0)),
    "images after each other": lambda net, y: net.norm(y.cumsum(0)),
    "two images as one": lambda net, y: net.group(y.reshape(y.shape[0] // 2, 32, -1, y.shape[3]).relu() + 1),
    "channels as images": lambda net, y: net.norm(y.reshape(y.shape[0] * 2, 16, *y.shape[2:]).sin().reshape(y.shape)),
    "images as channels": lambda net, y: y.transpose(0, 1).contiguous().sin(),
    "the first image": lambda net, y: net.norm(y + y[:1]),
    "a loss": lambda net, y: net.norm(y).square().mean(),
}
CASES = {"squeeze and excite": squeeze_excite, "joined": joined, "two results": two_results, **MIXED}


def compiled(net: nn.Module, x: torch.Tensor) -> Any:
    return npu.compile(net, x, device="cpu", threads=2, fallback="error")


def convolutions(module: Any) -> int:
    return sum("conv[" in line for line in module.executor.plan().splitlines())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_results(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = Net(CASES[name]).eval().requires_grad_(False).to(dtype)
    x = torch.randn(12, 3, 56, 56, dtype=dtype)
    module = compiled(net, x)
    got, exact, want = (m(v) for m, v in ((module, x), (copy.deepcopy(net).double(), x.double()), (net, x)))
    for result in zip(*(y if isinstance(y, tuple) else (y,) for y in (got, exact, want)), strict=True):
        numbers.check(*result, name)
    worth = name not in MIXED or (dtype is torch.float32 and name != "two images as one")
    assert (convolutions(module) >= 24) is worth


@pytest.mark.parametrize(("batch", "side"), [(7, 56), (17, 40), (33, 32)])
def test_every_image_is_computed_once(batch: int, side: int) -> None:
    torch.manual_seed(0)
    net = Net(squeeze_excite).eval().requires_grad_(False)
    x = torch.randn(batch, 3, side, side)
    module = compiled(net, x)
    numbers.check(module(x), copy.deepcopy(net).double()(x.double()), net(x), f"batch {batch}")
    pieces = -(-batch // -(-batch // 16))
    assert convolutions(module) in (3 * pieces, 2 * pieces + 1)


def test_a_nan_stays_in_its_image() -> None:
    torch.manual_seed(0)
    net = Net(joined).eval().requires_grad_(False)
    x = torch.randn(12, 3, 56, 56)
    x[2, 0, 5, 5] = torch.nan
    assert compiled(net, x)(x).isnan().flatten(1).any(1).tolist() == [i == 2 for i in range(12)]


def test_one_image_and_few_bytes_are_not_divided() -> None:
    net = Net(squeeze_excite).eval().requires_grad_(False)
    for shape in ((1, 3, 56, 56), (8, 3, 8, 8)):
        x = torch.randn(shape)
        assert convolutions(compiled(net, x)) == 3


def test_profiles_and_single_steps() -> None:
    """A profile adds up the parts of an op, and single steps are those of the whole batch."""
    torch.manual_seed(0)
    net = Net(squeeze_excite).eval().requires_grad_(False)
    x = torch.randn(12, 3, 56, 56)
    module = compiled(net, x)
    profiler = Profiler(module.executor)
    profiler.run({"x": x.numpy()}, module.weights)
    names = [row.name for row in profiler.summary(by="op")]
    assert len(names) == len(set(names))
    comparison = npu.compare(module, "cpu", "cpu", inputs={"x": x.numpy()})
    assert comparison.agrees, str(comparison)
