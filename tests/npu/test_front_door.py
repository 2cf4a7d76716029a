"""``import npu`` offers what a user needs, and costs no PyTorch until that is needed."""

from __future__ import annotations

import json
import subprocess
import sys

import npu
import npu_compiler
import npu_runtime
import pytest
import torch
import torch_ir
from npu_runtime import InvalidValueError
from torch import nn


def test_names_are_those_of_the_layers_below() -> None:
    assert set(npu.__all__) <= set(dir(npu))
    for name in npu.__all__:
        assert getattr(npu, name) is not None
    assert npu.extract is torch_ir.extract_ir
    assert npu.partition is npu_compiler.partition
    assert npu.Buffer is npu.NPUBuffer is npu_runtime.NPUBuffer
    for name in ("DAGExecutor", "Device", "Executor", "Profiler", "Session", "Weights", "devices", "load_weights"):
        assert getattr(npu, name) is getattr(npu_runtime, name)
    with pytest.raises(AttributeError, match="module 'npu' has no attribute 'complie'"):
        npu.complie  # noqa: B018


def test_names_without_pytorch_do_not_import_it() -> None:
    with_torch = {"CompiledModule", "compile", "extract", "Generator", "Generation", "Piece", "compare"}
    names = [name for name in npu.__all__ if name not in with_torch]
    code = f"import sys, npu; [getattr(npu, name) for name in {names!r}]; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert run.stdout == "False\n"


class Solve(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.linalg.solve(a, b))


def test_explain() -> None:
    model = nn.Linear(3, 4)
    x = torch.ones(2, 3)
    found = npu.explain(model, x)
    assert found.whole
    assert found.supported == {"aten.linear.default": 1}
    assert found.arithmetic == 1
    assert str(found) == "Linear: 1 of 1 nodes run on the device, 100.0% of the arithmetic"
    assert npu.explain(npu.extract(model, x)) == found == npu.explain(npu.extract(model, x).to_dict())
    partly = npu.explain(Solve(), (torch.eye(3), torch.ones(3, 1)))
    assert not partly.whole
    assert "solve" in str(partly) and "npu.partition" in str(partly)
    assert repr(partly).startswith("Explanation(Solve: ")
    assert json.dumps(partly.to_dict())


def test_explain_refuses_what_it_cannot_read() -> None:
    with pytest.raises(InvalidValueError, match="got int; expected a module with example inputs, an IR"):
        npu.explain(3)
    with pytest.raises(InvalidValueError, match="example inputs go with a module; got them with dict"):
        npu.explain({}, torch.ones(1))
