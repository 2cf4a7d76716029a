"""Modules whose weights PyTorch's own tools have quantised: they run as products of these integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import npu
import pytest
import torch
from npu.host_parts import HostWarning
from npu_runtime import load_weights
from torch import Tensor, nn

from tests.support.numbers import check
from tests.support.weight_subclass import quantize_linears

X = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))


def build(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 32, bias=False)).eval()


def exact(model: nn.Module, x: Tensor) -> Tensor:
    """With the numbers that the weights stand for."""
    plain = build()
    for ours, theirs in zip(plain.modules(), model.modules(), strict=True):
        if isinstance(ours, nn.Linear):
            weight = theirs.weight
            ours.double().weight.data = weight.q.double() * weight.scale.double()  # type: ignore[union-attr, operator]
            if ours.bias is not None:
                ours.bias.data = theirs.bias.double()  # type: ignore[union-attr, operator]
    return plain(x.double())  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_module_with_quantised_weights(dtype: torch.dtype) -> None:
    model = quantize_linears(build().to(dtype))
    compiled = npu.compile(model, X.to(dtype))
    check(compiled(X.to(dtype)), exact(model, X.to(dtype)), model(X.to(dtype)), "outputs")


def test_new_weights_of_the_same_kind() -> None:
    compiled = npu.compile(quantize_linears(build()), X)
    other = quantize_linears(build(1))
    for source in (other, other.state_dict()):
        compiled.update_weights(source)
        check(compiled(X), exact(other, X), other(X), "outputs")


def test_its_weights_load_by_hand() -> None:
    model = quantize_linears(build())
    names = {"0.weight.q", "0.weight.scale", "0.bias", "2.weight.q", "2.weight.scale"}
    assert set(load_weights(model)) == set(load_weights(model.state_dict())) == names


def test_open_sizes_and_buckets() -> None:
    model = quantize_linears(build())
    shapes = ({0: torch.export.Dim("batch", min=1, max=16)},)
    options: dict[str, Any]
    for options in ({}, {"buckets": {"batch": (4, 16)}}):
        compiled = npu.compile(model, X, dynamic_shapes=shapes, **options)
        for x in (X, X[:1], X.repeat(4, 1)):
            check(compiled(x), exact(model, x), model(x), "outputs")


def test_torch_compile_and_saved_models(tmp_path: Path) -> None:
    model = quantize_linears(build())
    with torch.no_grad():
        check(torch.compile(model, backend="npu")(X), exact(model, X), model(X), "outputs")
    npu.compile(model, X).save(tmp_path / "model.npu")
    check(npu.load(tmp_path / "model.npu")(X), exact(model, X), model(X), "outputs")


class Inverse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = quantize_linears(build())

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.inv(self.inner(x)[:, :3])  # type: ignore[no-any-return]


def test_parts_on_the_host() -> None:
    model = Inverse()
    with pytest.warns(HostWarning):
        compiled = npu.compile(model, X)
    torch.testing.assert_close(compiled(X), model(X), rtol=1e-4, atol=1e-4)
