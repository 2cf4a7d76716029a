"""Tables of quantised weights: what they do to a program, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from npu_base.quantization import Scheme
from npu_compiler import compile
from torch import nn

from .helpers import ir_of, ops

FOUR = Scheme(4, 32)
X = torch.zeros(2, 64)


class Counts(nn.Module):
    """Reads a matrix, writes a buffer, and has a number."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)
        self.register_buffer("seen", torch.zeros(2, 64))
        self.register_buffer("count", torch.tensor(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add_(x)  # type: ignore[operator]
        return self.linear(x * self.count)  # type: ignore[no-any-return]


IR = ir_of(Counts(), X)


def test_a_weight_becomes_three() -> None:
    program = compile(IR, quantized={"linear.weight": FOUR})
    weights = {w["name"]: program.data["values"][w["value"]] for w in program.data["weights"]}
    stored = {name: (w["dtype"], w["shape"]) for name, w in weights.items() if name.startswith("linear.weight")}
    assert stored == {
        "linear.weight": ("uint8", [3, 32]),
        "linear.weight.scales": ("float16", [3, 2]),
        "linear.weight.offsets": ("float16", [3, 2]),
    }


def test_exact_programs_read_numbers() -> None:
    linear = ir_of(nn.Linear(64, 3), X)
    assert ops(compile(linear, exact=True, quantized={"weight": FOUR})) == "dequantize | matmul"
    assert ops(compile(linear, quantized={"weight": FOUR})) == "matmul"


def test_scales_stay_as_they_are_in_half_precision() -> None:
    scheme = Scheme(8, 0, "none", scale_dtype="float32")
    program = compile(ir_of(nn.Linear(64, 3), X), compute_dtype="bfloat16", quantized={"weight": scheme})
    product = next(op for op in program.data["main"] if op["op"] == "matmul")
    assert product["attrs"]["bits"] == 8
    assert program.data["values"][product["in"][3]]["dtype"] == "float32"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([("linear.weight", FOUR)], "quantized is a list"),
        ({"linear.weight": 4}, "the scheme of 'linear.weight' is a int"),
        ({"missing": FOUR}, "'missing' cannot be quantised; expected the name of a weight"),
        ({"seen": FOUR}, "'seen' cannot be quantised: it is updated in place"),
        ({"count": FOUR}, r"'count' cannot be quantised"),
        ({"linear.weight": Scheme(5, 32)}, "not supported; got .*bits=5"),
        ({"linear.weight": Scheme(4, -1)}, "not supported; got .*group=-1"),
        ({"linear.weight": Scheme(4, 32, "shift")}, "not supported; got .*offset='shift'"),
        ({"linear.weight": Scheme(4, 32, scale_dtype="int8")}, "not supported; got .*scale_dtype='int8'"),
    ],
)
def test_other_tables_are_refused(table: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        compile(IR, quantized=table)


def test_tied_weights_have_one_scheme() -> None:
    table, head = nn.Embedding(5, 64), nn.Linear(64, 5, bias=False)
    head.weight = table.weight
    ir = ir_of(nn.Sequential(table, head), torch.tensor([1]))
    program = compile(ir, quantized={"1.weight": FOUR, "0.weight": FOUR})
    ties = {w["name"]: w["ties"] for w in program.data["weights"]}
    assert ties == {
        "0.weight": ["1.weight"], "0.weight.scales": ["1.weight.scales"], "0.weight.offsets": ["1.weight.offsets"],
    }  # fmt: skip
    with pytest.raises(ValueError, match="expected one scheme for both"):
        compile(ir, quantized={"1.weight": FOUR, "0.weight": Scheme(8, 32)})
