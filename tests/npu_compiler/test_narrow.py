"""What of a float32 model is half inside, with ``compile(compute_dtype=...)``."""

from __future__ import annotations

import pytest
import torch
from npu_compiler import CompiledProgram, compile
from torch import Tensor, nn

from .helpers import assert_same, ir_of, module_of, results


def dtypes(program: CompiledProgram) -> dict[str, str]:
    return {v["name"]: v["dtype"] for v in program.data["values"]}


def out_dtypes(program: CompiledProgram, kind: str) -> set[str]:
    values = program.data["values"]
    outs = [o for op in program.data["main"] if op["op"] == kind for o in op["out"] if o is not None]
    return {values[o if isinstance(o, int) else o[0]]["dtype"] for o in outs}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_products_and_convolutions_are_half(dtype: str) -> None:
    model = module_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)))
    x = (torch.randn(2, 3, 4, 4),)
    program = compile(ir_of(model, *x), compute_dtype=dtype)
    assert out_dtypes(program, "conv") == out_dtypes(program, "matmul") == {dtype}
    assert {s.dtype for s in (*program.input_specs, *program.output_specs, *program.weight_specs)} == {"float32"}
    weights = [op["in"][1] for op in program.data["main"] if op["op"] in ("conv", "matmul")]
    assert {program.data["values"][w if isinstance(w, int) else w[0]]["dtype"] for w in weights} == {dtype}
    assert_same(results(program, model, x), [model(*x).detach().numpy()], 5e-3 if dtype == "float16" else 5e-2)


def test_biases_and_angles_stay_float32() -> None:
    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.register_buffer("frequencies", torch.tensor([1.0, 0.1, 0.01, 0.001]))

        def forward(self, x: Tensor, positions: Tensor) -> Tensor:
            angles = positions[:, None].float() * self.frequencies
            return self.linear(x) * angles.cos()

    model = module_of(Rotary())
    inputs = (torch.randn(3, 4), torch.tensor([0, 1000, 2001]))
    program = compile(ir_of(model, *inputs), compute_dtype="bfloat16")
    assert {s.name: s.dtype for s in program.weight_specs}["linear.bias"] == "float32"
    assert not any(name.startswith(("linear.bias.", "frequencies.")) for name in dtypes(program))
    assert_same(results(program, model, inputs), [model(*inputs).detach().numpy()], 3e-2)


def test_integers_stay_what_they_are() -> None:
    inputs = (torch.arange(6).reshape(2, 3) + 2**40,)
    program = compile(ir_of(lambda x: x * 3 + 1, *inputs), compute_dtype="float16")
    assert set(dtypes(program).values()) == {"int64"}


def test_float32_is_no_change() -> None:
    ir = ir_of(nn.Linear(3, 3), torch.ones(1, 3))
    assert compile(ir, compute_dtype="float32").to_bytes() == compile(ir).to_bytes()
