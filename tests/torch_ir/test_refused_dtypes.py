"""Calls that PyTorch refuses for their dtypes only when they run."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_ir import ConversionError, IRExecutor, extract_ir

from tests.torch_ir.proof import Fn


@pytest.mark.parametrize(
    ("model", "x", "words"),
    [
        (nn.Linear(4, 3), torch.ones(2, 4).double(), r"'linear' .*got float64 and float32; expected one dtype"),
        (nn.Linear(4, 3).half(), torch.ones(2, 4), r"got float32 and float16; .*x\.to\(torch\.float16\)"),
        (nn.LayerNorm(4), torch.ones(2, 4).double(), "layer_norm.default cannot run .*got float64 and float32"),
        (Fn(lambda x: x.index_copy(0, torch.tensor([0]), x[:1].half())), torch.ones(2, 4), "got float32 and float16"),
        (Fn(lambda x: torch.cdist(x, x.double())), torch.ones(2, 4), "got float32 and float64"),
        (nn.GELU(), torch.ones(4).int(), r"got int32; expected a floating-point dtype; convert it, x\.float\(\)"),
        (nn.Softmax(-1), torch.ones(4).bool(), "got bool; expected a floating-point dtype"),
    ],
)
def test_dtypes_that_pytorch_refuses(model, x, words):
    with pytest.raises((RuntimeError, NotImplementedError)), torch.no_grad():
        model(x)
    with pytest.raises(ConversionError, match=words):
        extract_ir(model.eval(), x)


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.LayerNorm(4), torch.ones(2, 4).half()),
        (Fn(lambda x: x.softmax(-1, dtype=torch.float32)), torch.arange(4)),
        (Fn(lambda x: x.index_put((torch.tensor([0]),), x[1])), torch.ones(2, 4)),
    ],
)
def test_dtypes_that_may_differ(model, x):
    (result,) = IRExecutor(extract_ir(model.eval(), x), model.state_dict())(x)
    assert torch.equal(result, model(x).detach())
