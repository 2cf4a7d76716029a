"""Convolutions inside a model, where they are read and written in layouts of the device's own: every kernel of the CPU,
in every dtype, with all that can follow a sum."""

from __future__ import annotations

import copy
from typing import NamedTuple

import npu
import pytest
import torch
from torch import nn

from tests.support import numbers


class Case(NamedTuple):
    channels: tuple[int, int]
    kernel: int
    size: tuple[int, int]
    kernels: dict[torch.dtype, str]  # what is named in the plan, for each dtype
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    batch: int = 1


F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
PLANES = dict.fromkeys((F32, BF16, F16), "direct planes")
DIRECT = {F32: "direct", BF16: "direct", F16: "direct"}
# bfloat16: in pairs, or not, as the processor has it
GATHERED = {F32: "gemm", BF16: "", F16: "gemm"}
TILES = {F32: "winograd", BF16: "", F16: "winograd"}
GROUPS = dict.fromkeys((F32, BF16, F16), "groups")

CASES = {
    "an image": Case((3, 16), 3, (33, 40), PLANES, stride=2, padding=1, batch=2),
    "a wide kernel": Case((3, 64), 7, (64, 60), PLANES, stride=2, padding=3),
    "four planes": Case((4, 24), 5, (20, 20), PLANES, batch=3),
    "transformed tiles": Case((64, 64), 3, (20, 23), TILES, padding=1, batch=2),
    "tiles of many images": Case((66, 40), 3, (40, 41), TILES, batch=6),
    "steps": Case((64, 70), 3, (31, 29), DIRECT, stride=2, padding=1),
    "dilated": Case((34, 33), 3, (18, 22), {**DIRECT, BF16: ""}, padding=2, dilation=2, batch=2),
    "odd channels": Case((63, 30), 3, (17, 19), DIRECT, padding=1, batch=2),
    "small images": Case((48, 24), 3, (7, 7), GATHERED, padding=1, batch=8),
    "pixels": Case((128, 64), 1, (14, 15), GATHERED, batch=2),
    "depthwise": Case((36, 36), 3, (20, 23), dict.fromkeys((F32, BF16, F16), "depthwise"), padding=1, groups=36),
    "narrow rows": Case(
        (32, 32), 5, (7, 9), dict.fromkeys((F32, BF16, F16), "depthwise"), padding=2, groups=32, batch=2
    ),
    "two filters a channel": Case((36, 72), 5, (20, 23), GROUPS, stride=2, padding=2, groups=36, batch=2),
    "groups": Case((48, 48), 3, (12, 11), GROUPS, stride=2, padding=1, groups=6, batch=2),
}


class Scaled(nn.Module):
    """With a scale and a shift for all channels, as HGNetV2 learns them."""

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.scale, self.shift = nn.Parameter(torch.tensor([1.75])), nn.Parameter(torch.tensor([-0.3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.function(x) + self.shift


AFTER = {
    "nothing": None,
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "clamp": nn.Hardtanh(-0.25, 0.125),
    "hardswish": nn.Hardswish(),
    "silu": nn.SiLU(),
    "gelu": nn.GELU(),
    "scaled": Scaled(nn.ReLU()),
    "scaled silu": Scaled(nn.SiLU()),
}


class Model(nn.Module):
    def __init__(self, case: Case, after: str, adds: bool) -> None:
        super().__init__()
        inputs, outputs = case.channels
        self.conv = nn.Conv2d(inputs, outputs, case.kernel, case.stride, case.padding, case.dilation, case.groups)
        self.other = nn.Conv2d(inputs, outputs, 1) if adds else None
        self.after = AFTER[after]
        self.last = nn.Conv2d(outputs, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if self.other is not None:
            y = y + nn.functional.adaptive_max_pool2d(self.other(x), y.shape[-2:])
        return self.last(self.after(y) if self.after is not None else y)


@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_results(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    x = torch.randn(case.batch, case.channels[0], *case.size, dtype=dtype)
    for after, adds in [*((after, False) for after in AFTER), ("relu", True), ("silu", True)]:
        model = Model(case, after, adds).eval().requires_grad_(False).to(dtype)
        compiled = npu.compile(model, x, device="cpu", threads=2, fallback="error")
        exact = copy.deepcopy(model).double()(x.double())
        numbers.check(compiled(x), exact, model(x), f"{name}, {after}, {'added to' if adds else 'alone'}")


@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_the_kernel_is_the_one_meant(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    x = torch.randn(case.batch, case.channels[0], *case.size, dtype=dtype)
    compiled = npu.compile(Model(case, "relu", False).eval().to(dtype), x, device="cpu", threads=2, fallback="error")
    step = next(line for line in compiled.executor.plan().splitlines() if line.endswith("# conv2d"))
    assert f"conv[{case.kernels[dtype]}" in step
    assert "layout of conv2d " not in compiled.executor.plan() or "direct planes" not in step


@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_a_result_that_users_get_is_computed_by_the_same_kernel(name: str, dtype: torch.dtype) -> None:
    """Its channels do not come last: it is copied."""
    case = CASES[name]
    torch.manual_seed(0)
    x = torch.randn(case.batch, case.channels[0], *case.size, dtype=dtype)
    model = nn.Sequential(Model(case, "nothing", False).conv, nn.ReLU()).eval().requires_grad_(False).to(dtype)
    compiled = npu.compile(model, x, device="cpu", threads=2, fallback="error")
    assert f"conv[{case.kernels[dtype]}" in compiled.executor.plan() and "+map]" not in compiled.executor.plan()
    numbers.check(compiled(x), copy.deepcopy(model).double()(x.double()), model(x), name)


@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=["float32", "bfloat16", "float16"])
def test_infinities_reach_only_their_own_results(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 64, 20, 23)
    for at, value in (((0, 3, 0, 0), torch.inf), ((0, 5, 9, 9), -torch.inf), ((1, 63, 19, 22), torch.nan)):
        x[at] = value
    model = Model(CASES["transformed tiles"], "nothing", False).eval().requires_grad_(False).to(dtype)
    got, want = npu.compile(model, x.to(dtype), device="cpu", fallback="error")(x.to(dtype)), model(x.to(dtype))
    assert 0 < int(want.isfinite().sum()) < want.numel() and torch.equal(got.isfinite(), want.isfinite())


@pytest.mark.parametrize("name", ["depthwise", "narrow rows"])
def test_taps_beyond_the_border_are_left_out(name: str) -> None:
    """Zeros times a weight that is not finite would be NaN."""
    case = CASES[name]
    torch.manual_seed(0)
    x = torch.randn(case.batch, case.channels[0], *case.size)
    model = Model(case, "nothing", False).eval().requires_grad_(False)
    model.conv.weight[:, :, 0, 0] = torch.inf
    model.conv.weight[:, :, -1, -1] = torch.nan
    got, want = npu.compile(model, x, device="cpu", fallback="error")(x), model(x)
    assert 0 < int(want.isfinite().sum()) < want.numel()
    torch.testing.assert_close(got, want, equal_nan=True)
