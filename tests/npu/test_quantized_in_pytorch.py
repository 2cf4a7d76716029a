"""Modules whose weights PyTorch's own tools have quantised: they run as products of these integers."""

from __future__ import annotations

import npu
import pytest
import torch
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
