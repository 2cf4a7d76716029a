"""Every elementwise operator and every reduction over the ends of its dtypes: zeros of both signs, denormals, extremes,
infinities and NaN. Results are eager PyTorch's, or nearer to its float64 ones; docs/exactness.md lists what differs."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import npu
import pytest
import torch
import torch.nn.functional as F
from npu_compiler import CompileError
from npu_compiler.lowering import LOWERINGS
from npu_runtime import Device
from torch import Tensor, nn

from tests.support.devices import device_of

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
EPSILON = {torch.float32: 2.0**-21, torch.float16: 2.0**-9, torch.bfloat16: 2.0**-6}
DEVIATIONS = {
    "addcmul": "fused multiply-add",
    "fmax": "zeros of both signs",
    "fmin": "zeros of both signs",
    "gelu": "infinities",
    "lerp": "fused multiply-add",
    "logaddexp2": "near zero",
    "logsumexp": "near zero",
    "log_softmax": "near zero",
    "sum": "overflow",
    "mean": "overflow",
    "nansum": "overflow",
    "nanmean": "overflow",
    "layer_norm": "overflow",
    "group_norm": "overflow",
    "rms_norm": "overflow",
    "var": "overflow",
    "norm": "overflow",
}
"""Operators that may differ in places, and the row of docs/exactness.md that says how."""
METAL_DEVIATIONS = {"cumsum": "overflow", "cumprod": "overflow"}
"""Further ones on GPUs, which have no float64 to carry what lies between."""


@pytest.fixture(params=["cpu", pytest.param("metal", marks=pytest.mark.slow)])
def device(request: pytest.FixtureRequest) -> Device:
    return device_of(request.param)


def numbers_of(dtype: torch.dtype) -> Tensor:
    if dtype == torch.bool:
        return torch.tensor([False, True])
    if dtype.is_floating_point:
        ends = torch.finfo(dtype)
        sizes = [
            0.0,
            ends.smallest_normal / 4,
            ends.smallest_normal,
            1e-3,
            0.3,
            0.5,
            1.0,
            1.5,
            2.0,
            2.5,
            3.0,
            7.0,
            20.5,
        ]
        sizes += [88.9, 150.0, 1000.5, ends.max / 2, ends.max, math.inf]
        return torch.tensor([*sizes, *(-x for x in sizes), math.nan], dtype=torch.float64).to(dtype)
    limits = torch.iinfo(dtype)
    values = {0, 1, 2, 3, 7, 100, limits.max, limits.max - 1, limits.min, limits.max // 2}
    values |= {2**24 + 1, 2**53 + 1, -(2**53) - 1} if limits.max > 2**53 else set()
    values |= {-1, -2, -3, -7, -100, limits.min + 1} if limits.min < 0 else set()
    return torch.tensor(sorted(values), dtype=dtype)


class Calls(nn.Module):
    def __init__(self, functions: list[Callable[..., Tensor]]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, *args: Tensor) -> tuple[Tensor, ...]:
        return tuple(function(*args) for function in self.functions)


@functools.cache
def operators(arity: int) -> list[tuple[str, Callable[..., Tensor]]]:
    """The elementwise overloads of that many tensors and no other argument."""
    found = []
    for op_type, rule in LOWERINGS.items():
        if rule.function.__module__ != "npu_compiler.ops.map":
            continue
        _, name, overload = op_type.split(".")
        try:
            function = getattr(getattr(torch.ops.aten, name), overload)
        except AttributeError:  # of another version of PyTorch
            continue
        needed = [a for a in function._schema.arguments if not a.has_default_value()]
        if len(needed) == arity and all(str(a.type) == "Tensor" for a in needed):
            found.append((op_type, function))
    assert found
    return found


def differing(ours: Tensor, own: Tensor, exact: Tensor | None) -> Tensor:
    """Where ours is neither PyTorch's result nor, but for rounding, its result in float64."""
    assert (ours.dtype, ours.shape) == (own.dtype, own.shape)
    if not own.is_floating_point():
        return ours != own
    good = _near(ours, own)
    if exact is not None and exact.is_floating_point():
        good |= _near(ours, exact.to(own.dtype))
    return ~good


def _near(ours: Tensor, theirs: Tensor) -> Tensor:
    a, b = ours.double(), theirs.double()
    signs = torch.signbit(a) == torch.signbit(b)
    same = ((a == b) & signs) | (a.isnan() & b.isnan())
    least = float(torch.finfo(theirs.dtype).tiny) * 2.0**-6
    return same | (a.isfinite() & b.isfinite() & signs & ((a - b).abs() <= EPSILON[theirs.dtype] * b.abs() + least))


def faults(device: Device, named: list[tuple[str, Callable[..., Tensor]]], args: tuple[Tensor, ...]) -> Iterator[str]:
    usable = []
    for name, function in named:
        try:
            usable.append((name, function, function(*args)))
        except RuntimeError:  # PyTorch does not define it for the dtype
            continue
    exact = tuple(x.double() if x.is_floating_point() else x for x in args)
    compiled = npu.compile(Calls([f for _, f, _ in usable]).eval(), args, device=device, exact=True)
    outputs = compiled(*args)
    allowed = DEVIATIONS if device.kind == "cpu" else DEVIATIONS | METAL_DEVIATIONS
    for (name, function, own), ours in zip(usable, outputs, strict=True):
        wrong = differing(ours, own, function(*exact)).reshape(-1)
        if bool(wrong.any()) and (name.split(".")[1] if "." in name else name) not in allowed:
            at = int(wrong.nonzero()[0])
            given = [x.reshape(-1)[at].item() if x.numel() == own.numel() else "a row" for x in args]
            yield f"{name}{given}: {ours.reshape(-1)[at].item()}, PyTorch has {own.reshape(-1)[at].item()}"


DTYPES = pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=lambda d: str(d).removeprefix("torch."))


@DTYPES
def test_of_one_operand(device: Device, dtype: torch.dtype) -> None:
    assert not list(faults(device, operators(1), (numbers_of(dtype),)))


@DTYPES
def test_of_two_operands(device: Device, dtype: torch.dtype) -> None:
    x, y = (t.reshape(-1).clone() for t in torch.meshgrid([numbers_of(dtype)] * 2, indexing="ij"))
    divides = re.compile("div|rem|mod")
    plain = [op for op in operators(2) if not divides.search(op[0])]
    assert not list(faults(device, plain, (x, y)))
    whole = not dtype.is_floating_point
    x, y = (x[y != 0], y[y != 0]) if whole else (x, y)
    assert not list(faults(device, [op for op in operators(2) if divides.search(op[0])], (x, y)))


@DTYPES
def test_of_three_operands(device: Device, dtype: torch.dtype) -> None:
    few = numbers_of(dtype)[::3]
    args = tuple(t.reshape(-1).clone() for t in torch.meshgrid([few] * 3, indexing="ij"))
    named = [op for op in operators(3) if "where" not in op[0]]
    if not dtype.is_floating_point:
        named = [op for op in named if "addcmul" in op[0]] if dtype != torch.bool else []
    assert not named or not list(faults(device, named, args))


ROWS: list[tuple[str, Callable[..., Tensor]]] = [
    *((name, functools.partial(lambda n, x: getattr(torch, n)(x, -1), name))
      for name in "sum mean var std amax amin argmax argmin logsumexp cumsum cumprod".split()),
    *((name, functools.partial(lambda n, x: getattr(torch, n)(x, -1), name)) for name in "prod any all".split()),
    ("nansum", lambda x: x.nansum(-1)), ("nanmean", lambda x: x.nanmean(-1)), ("sort", lambda x: x.sort(-1)[0]),
    ("norm", lambda x: x.norm(2, -1)), ("norm 1", lambda x: x.norm(1, -1)),
    ("norm inf", lambda x: x.norm(math.inf, -1)),
    ("softmax", lambda x: x.softmax(-1)), ("log_softmax", lambda x: x.log_softmax(-1)),
    ("layer_norm", lambda x: F.layer_norm(x, x.shape[-1:])), ("rms_norm", lambda x: F.rms_norm(x, x.shape[-1:])),
    ("group_norm", lambda x: F.group_norm(x.unsqueeze(1), 1)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: str(d).removeprefix("torch."))
def test_rows(device: Device, dtype: torch.dtype) -> None:
    few = numbers_of(dtype)
    few = few[[i for i in range(len(few)) if i % 3 == 0 or not few[i].isfinite()]]
    rows = torch.stack([t.reshape(-1) for t in torch.meshgrid([few] * 3, indexing="ij")], -1)
    assert not list(faults(device, ROWS, (rows,)))


INTEGER_ROWS: list[tuple[str, Callable[..., Tensor]]] = [
    *((name, functools.partial(lambda n, x: getattr(torch, n)(x, -1), name))
      for name in "sum prod amax amin argmax argmin cumsum cumprod any all".split()),
    ("sort", lambda x: x.sort(dim=-1, stable=True)[0]), ("argsort", lambda x: x.argsort(dim=-1, stable=True)),
    ("topk", lambda x: x.topk(2, -1)[0]), ("max", lambda x: x.max(-1)[1]),
    ("product", lambda x: x @ x[:3].t()),
    ("bucketize", lambda x: torch.bucketize(x, x[0].sort()[0])), ("isin", lambda x: torch.isin(x, x[0])),
    ("arange", lambda x: torch.arange(2**60 + 1, 2**60 + 8, 3) + x[0, 0]),
    ("full", lambda x: torch.full((2,), 2**53 + 1)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", INTEGERS[:-1], ids=lambda d: str(d).removeprefix("torch."))
def test_integer_rows(device: Device, dtype: torch.dtype) -> None:
    few = numbers_of(dtype)[::2]
    rows = torch.stack([t.reshape(-1) for t in torch.meshgrid([few] * 3, indexing="ij")], -1)
    assert not list(faults(device, INTEGER_ROWS, (rows,)))


def _constant_rows() -> Tensor:
    return torch.tensor([1000.7, 77.7, 3.3, -0.1, 1e-20, 1e18]).unsqueeze(1)


@pytest.mark.parametrize("length", [1, 2, 7, 64, 1000, 5000])
def test_norms_of_equal_elements_are_zero(device: Device, length: int) -> None:
    x = _constant_rows().expand(6, length).contiguous()
    norms = Calls([lambda x: F.layer_norm(x, [length]), lambda x: F.group_norm(x.unsqueeze(1), 1),
                   lambda x: x.var(1, correction=0), lambda x: x.std(1, correction=0)])  # fmt: skip
    for result in npu.compile(norms.eval(), x, device=device)(x):
        assert not result.count_nonzero()


def test_norm_of_equal_elements_in_an_image_is_zero(device: Device) -> None:
    norm = nn.Sequential(nn.Conv2d(3, 16, 1, bias=True), nn.GroupNorm(4, 16)).eval().requires_grad_(False)
    norm[0].weight.zero_()
    norm[0].bias[:] = torch.tensor([77.7, 1000.7, 3.3, -0.1]).repeat_interleave(4)
    x = torch.randn(2, 3, 40, 30)
    assert not npu.compile(norm, x, device=device)(x).count_nonzero()


@pytest.mark.parametrize("eps", [-0.5, -1e9, math.inf, math.nan])
def test_norms_take_any_eps(device: Device, eps: float) -> None:
    x = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    for norm in (nn.LayerNorm(5, eps=eps), nn.GroupNorm(2, 6, eps=eps), nn.RMSNorm(5, eps=eps),
                 nn.InstanceNorm1d(6, eps=eps)):  # fmt: skip
        norm.eval().requires_grad_(False)
        ours, own = npu.compile(norm, x, device=device)(x), norm(x)
        torch.testing.assert_close(ours, own, equal_nan=True, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1e30, 1e25, 1e-25, 1e-30])
def test_deviations_exist_where_variances_do_not(device: Device, size: float) -> None:
    x = torch.tensor([[1.0, -1.0, 3.0, 0.5], [2.0, 2.0, 2.0, 7.0]]) * size
    ours = npu.compile(Calls([lambda x: x.std(1), lambda x: x.std(0)]).eval(), x, device=device)(x)
    torch.testing.assert_close(ours, (x.double().std(1).float(), x.double().std(0).float()), rtol=1e-6, atol=0)


EMPTY = "sum mean prod var std any all nansum nanmean".split()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_reductions_of_nothing(device: Device, shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    functions: list[Any] = [functools.partial(lambda n, x: getattr(x, n)(), name) for name in EMPTY]
    functions += [functools.partial(lambda n, x: getattr(x, n)(0), name) for name in EMPTY]
    functions += [lambda x: x.logsumexp(0), lambda x: x.logsumexp(-1, keepdim=True), lambda x: x.cumsum(0)]
    ours = npu.compile(Calls(functions).eval(), x, device=device)(x)
    for got, function in zip(ours, functions, strict=True):
        torch.testing.assert_close(got, function(x), equal_nan=True, rtol=0, atol=0)


def test_deviations_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "exactness.md").read_text()
    for name, row in (DEVIATIONS | METAL_DEVIATIONS).items():
        assert re.search(rf"^\| .*`{name}`.*\| {row}", page, re.MULTILINE), f"{name}: {row}"


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("kind", [torch.int16, torch.int32, torch.int64, torch.uint8], ids=str)
def test_ldexp_reaches_every_exponent(dtype: torch.dtype, kind: torch.dtype, device: Device) -> None:
    values = [
        1e-30,
        3e38,
        1.0,
        1e-45,
        math.inf,
        -math.inf,
        0.0,
        -0.0,
        1e38,
        2.0**-100,
        1.7,
        0.7,
        65504.0,
        5e-40,
        math.nan,
    ]
    powers = [200, -200, 2**31, 400, -5, 3, 1000, -1000, -260, -48, -140, -149, 1, 127, 0]
    x, n = torch.tensor(values).to(dtype)[:, None].repeat(1, len(powers)), torch.tensor(powers).to(kind)
    (got,), wanted = npu.compile(Calls([torch.ldexp]), (x, n), device=device)(x, n), torch.ldexp(x, n)
    if device.kind == "metal":  # GPUs take denormals for zeros
        smallest = torch.finfo(torch.float32).tiny
        normal = (x.float().abs() >= smallest) | (x == 0) | x.isnan()
        got, wanted = (y.masked_fill(~normal | (y.abs() < smallest), 0.0) for y in (got, wanted))
    torch.testing.assert_close(got, wanted, rtol=0, atol=0, equal_nan=True)


def test_ldexp_of_two_half_dtypes_is_refused_where_pytorch_rounds_as_no_op_does() -> None:
    x, n = torch.full((3,), 1.5, dtype=torch.bfloat16), torch.tensor(20.25, dtype=torch.float16)
    with pytest.raises(CompileError, match="a single element of one half dtype with another one"):
        npu.compile(Calls([torch.ldexp]), (x, n), fallback="error")
    with pytest.raises(CompileError, match="PyTorch's trace and its result differ"):
        npu.compile(Calls([torch.ldexp]), (torch.ones(3, dtype=torch.int32), n), fallback="error")
    (got,) = npu.compile(Calls([torch.ldexp]), (x, n.bfloat16()))(x, n.bfloat16())
    assert torch.equal(got, torch.ldexp(x, n.bfloat16()))


@pytest.mark.parametrize("offset", [1e3, 1e5, -1e6])
@pytest.mark.parametrize("count", [700, 20000])
def test_variance_of_numbers_far_from_zero(device: Device, offset: float, count: int) -> None:
    """A mean that is rounded before it is subtracted would add its error's square to each."""
    x = torch.randn(3, count, generator=torch.Generator().manual_seed(1)) + offset
    functions = [lambda x: x.var(-1), lambda x: x.std(-1), lambda x: torch.var_mean(x, -1)[0]]
    results = npu.compile(Calls(functions), (x,), device=device, fallback="error")(x)
    for got, wanted in zip(results, (f(x.double()) for f in functions), strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=5e-7, atol=0)
