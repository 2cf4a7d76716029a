"""Random shapes, strides and attributes on Metal, beside PyTorch in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from npu_runtime import Device
from torch import Tensor

from tests.support.devices import metal_device

from .making import Case
from .test_execution import run_case

DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
few = st.integers(1, 9)
some = st.integers(1, 70)


@pytest.fixture(scope="module")
def device() -> Device:
    return metal_device()


def tensor(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spaced(draw: Any, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Views that make of a contiguous tensor one with other strides, inside the program."""
    order = draw(st.permutations(range(x.dim())))
    step = draw(st.integers(1, 3))
    backwards = draw(st.booleans())

    def view(x: Tensor) -> Tensor:
        x = x.permute(order)[..., ::step]
        return x.flip(0) if backwards else x

    return view


@st.composite
def products(draw: Any) -> tuple[Callable[..., Any], list[Tensor]]:
    batch, m, k, n = draw(st.integers(1, 3)), draw(some), draw(some), draw(some)
    a, b = tensor(1, batch, m, k), tensor(2, *((batch,) if draw(st.booleans()) else ()), n, k)
    residual = tensor(3, batch, m, n)
    if draw(st.booleans()):
        return lambda a, b, r: F.relu(a @ b.transpose(-1, -2) + r), [a, b, residual]
    return lambda a, b, r: F.silu(a @ b.transpose(-1, -2)) * r, [a, b, residual]


@st.composite
def convolutions(draw: Any) -> tuple[Callable[..., Any], list[Tensor]]:
    groups, into, out = draw(st.sampled_from([1, 1, 2, 4])), draw(few), draw(few)
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride, padding, dilation = draw(st.integers(1, 2)), draw(st.integers(0, 2)), draw(st.integers(1, 2))
    x = tensor(1, draw(st.integers(1, 2)), into * groups, draw(st.integers(6, 14)), draw(st.integers(6, 14)))
    w, bias = tensor(2, out * groups, into, *kernel), tensor(3, out * groups)
    if draw(st.booleans()):
        return lambda x, w, b: F.conv2d(x, w, b, stride, padding, dilation, groups).relu(), [x, w, bias]
    back = tensor(2, into * groups, out, *kernel)
    return lambda x, w, b: F.conv_transpose2d(x, w, b, stride, min(padding, 1), 0, groups), [x, back, bias]


@st.composite
def reductions(draw: Any) -> tuple[Callable[..., Any], list[Tensor]]:
    shape = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    x = tensor(1, *shape)
    view = spaced(draw, x)
    axis = draw(st.integers(0, len(shape) - 1))
    kind = draw(st.sampled_from(["sum", "mean", "amax", "softmax", "cumsum", "argmax", "sort", "layer_norm"]))
    if kind == "layer_norm":
        return lambda x: F.layer_norm(view(x).contiguous(), view(x).shape[axis:]), [x]
    if kind == "sort":
        return lambda x: view(x).sort(dim=axis, stable=True), [x]
    return lambda x: getattr(torch, kind)(view(x), axis), [x]


@st.composite
def moves(draw: Any) -> tuple[Callable[..., Any], list[Tensor]]:
    shape = draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    x = tensor(1, *shape)
    view = spaced(draw, x)
    axis = draw(st.integers(0, len(shape) - 1))
    low, high = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    kind = draw(st.sampled_from(["copy", "map", "pad", "index", "cat"]))
    if kind == "pad":
        return lambda x: F.pad(view(x), (low, high), value=0.5), [x]
    if kind == "index":
        return lambda x: view(x).index_select(axis, torch.tensor([0, -1 % view(x).shape[axis], 0])), [x]
    if kind == "cat":
        return lambda x: torch.cat([view(x), view(x) * 2], axis), [x]
    return lambda x: view(x).contiguous() if kind == "copy" else view(x).sigmoid() + view(x), [x]


FAMILIES = {"products": products, "convolutions": convolutions, "reductions": reductions, "moves": moves}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("examples", [12, pytest.param(300, marks=pytest.mark.slow)])
def test_any_shape(family: str, examples: int, device: Device) -> None:
    @settings(max_examples=examples, deadline=None, derandomize=examples < 100, suppress_health_check=list(HealthCheck))
    @given(FAMILIES[family](), DTYPES)
    def check(made: tuple[Callable[..., Any], list[Tensor]], dtype: torch.dtype) -> None:
        function, inputs = made
        makers = tuple(lambda g, x=x: x for x in inputs)
        run_case(Case(family, function, makers), dtype, device=device)

    check()
