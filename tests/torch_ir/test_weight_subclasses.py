"""Weights of tensor subclasses, which consist of several tensors, become weights of their own in an IR."""

from __future__ import annotations

import pytest
import torch
from npu_base.tensors import plain_tensors
from torch import Tensor, nn
from torch_ir import IR, IRExecutor, extract_ir, verify_ir_with_state_dict

from tests.support.weight_subclass import quantize_linears


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(torch.relu(self.second(self.first(x))))  # type: ignore[no-any-return]


def tied() -> nn.Module:
    torch.manual_seed(0)
    model = Tied().eval()
    quantize_linears(model)
    model.third.weight = model.first.weight
    return model


X = torch.randn(2, 3, 8)


def test_each_tensor_is_a_weight() -> None:
    ir = extract_ir(tied(), X)
    assert {w.name: (w.shape, w.dtype) for w in ir.weights} == {
        "first.weight.q": ((8, 8), "int8"), "first.weight.scale": ((8, 1), "float32"),
        "first.bias": ((8,), "float32"),
        "second.weight.q": ((8, 8), "int8"), "second.weight.scale": ((8, 1), "float32"),
        "second.bias": ((8,), "float32"),
    }  # fmt: skip
    assert ir.ties == {"third.weight.q": "first.weight.q", "third.weight.scale": "first.weight.scale"}


@pytest.mark.parametrize("saved", [False, True])
def test_it_computes_what_the_model_does(saved: bool) -> None:
    model = tied()
    ir = extract_ir(model, X)
    executor = IRExecutor(IR.from_dict(ir.to_dict()) if saved else ir)
    executor.load_weights_from_state_dict(model.state_dict())
    torch.testing.assert_close(executor(X)[0], model(X), rtol=0, atol=0)


@pytest.mark.parametrize("per_layer", [False, True])
def test_it_is_verified(per_layer: bool) -> None:
    model = tied()
    ir = extract_ir(model, X)
    passed, report = verify_ir_with_state_dict(ir, model.state_dict(), model, X, per_layer=per_layer)
    assert passed, report


def test_plain_tensors() -> None:
    state = tied().state_dict()
    plain = plain_tensors(state)
    assert list(plain)[:3] == ["first.weight.q", "first.weight.scale", "first.bias"]
    assert plain["first.weight.q"] is state["first.weight"].q
    others = {"a": 1, "b": X}
    assert all(plain_tensors(others)[name] is value for name, value in others.items())
