"""Tables of quantised weights: what they do to a program, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed
import torch.nn.functional as F
from npu_base.errors import InvalidValueError
from npu_base.quantization import Scheme
from npu_compiler import CompileError, compile
from torch import nn

from tests.support.torchao_ops import dequantize_affine
from tests.support.weight_subclass import quantize_linears

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
        ({"linear.weight": Scheme(4, 32, order="count")}, "cannot have the order 'count'; got a weight of the model"),
    ],
)
def test_other_tables_are_refused(table: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        compile(IR, quantized=table)


class Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.down = (nn.Linear(64, width, False) for width in (64, 8, 8, 64))

    def forward(self, x: torch.Tensor) -> Any:
        return self.down(self.q(x)) * torch.tanh(self.k(x) + self.v(x)).repeat(1, 8)


def test_products_share_the_columns_in_order() -> None:
    """Those of the same rows and order; they are merged, and one with another order is not."""

    def ordered(order: str) -> Scheme:
        return Scheme(4, 32, order=order)

    orders = {"q.weight": "a", "k.weight": "a", "v.weight": "a", "down.weight": "down"}
    table = {name: ordered(order) for name, order in orders.items()}
    together = compile(ir_of(Rows(), X), quantized=table)
    assert [op["op"] for op in together.data["main"]].count("gather") == 2
    assert [op["op"] for op in together.data["main"]].count("matmul") == 2
    apart = compile(ir_of(Rows(), X), quantized={**table, "v.weight": ordered("v")})
    assert [op["op"] for op in apart.data["main"]].count("gather") == 3
    names = {w["name"]: apart.data["values"][w["value"]] for w in apart.data["weights"]}
    assert {name: value["dtype"] for name, value in names.items() if "." not in name} == dict.fromkeys(
        ("a", "v", "down"), "int64"
    )
    exact = compile(ir_of(Rows(), X), exact=True, quantized=table)
    assert not any(op["op"] == "gather" for op in exact.data["main"])
    with pytest.raises(InvalidValueError, match=r"of 3 columns cannot have the order 'a'; got that of 64 columns"):
        compile(ir_of(nn.Sequential(nn.Linear(64, 3), nn.Linear(3, 2)), X),
                quantized={"0.weight": ordered("a"), "1.weight": ordered("a")})  # fmt: skip


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


class Exported(nn.Module):
    """Products as PyTorch's tools leave them."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.register_buffer("q", torch.ones(24, 64, dtype=torch.int8))
        self.register_buffer("scales", torch.ones(24, 2))
        self.register_buffer("zeros", torch.ones(24, 2, dtype=torch.int8))

    def forward(self, x: torch.Tensor) -> Any:
        q: Any = self.q
        match self.form:
            case "affine":
                return F.linear(x, dequantize_affine(q, [1, 32], self.scales, self.zeros, (-8, 7), x.dtype))  # type: ignore[arg-type]
            case "scaled":
                return (x @ q.t().to(x.dtype)) * self.scales[:, 1]  # type: ignore[index]
            case "bare":
                return x @ q.t().to(x.dtype)
            case "one for all":
                return (x @ q.t().to(x.dtype)) * self.scales[0, 0]  # type: ignore[index]
            case "of the rows":
                return (x @ q.t().to(x.dtype)) * x[:, :1]
            case "changing":
                return x @ x[:, :64].to(torch.int8).t().to(x.dtype)
            case "untransposed":
                return x[:, :24] @ q.to(x.dtype)
        return torch.ops.aten._weight_int8pack_mm(x, q, self.scales[:, 0].contiguous())  # type: ignore[index]


@pytest.mark.parametrize(
    ("form", "listed", "bits"),
    [
        ("affine", "matmul", 4),
        ("scaled", "matmul", 8),
        ("bare", "matmul", 8),
        ("packed", "matmul", 8),
        ("one for all", "matmul", 8),
        ("of the rows", "matmul{mul($0,$1)}", 8),
        ("changing", None, None),
        ("untransposed", "matmul", None),
    ],
)
def test_what_pytorch_quantised_is_read_as_stored(form: str, listed: str | None, bits: int | None) -> None:
    program = compile(ir_of(Exported(form), X))
    assert listed is None or ops(program).rpartition(" | ")[2] == listed
    products = [op for op in program.data["main"] if op["op"] == "matmul"]
    assert [product["attrs"].get("bits") for product in products] == [bits]


@pytest.mark.parametrize(
    ("bits", "offset", "unit"), [(4, "bias", 0), (6, "none", 32), (8, "point", 64), (4, "bias", 64)]
)
def test_products_with_units(bits: int, offset: str, unit: int) -> None:
    dtype = "int8" if unit else "float16"
    scheme = Scheme(bits, 16, offset, False, dtype, dtype, unit, "bfloat16")
    program = compile(ir_of(nn.Linear(64, 8), X), quantized={"weight": scheme})
    assert ops(program) == "matmul"
    specs = {spec.name: (spec.dtype, list(spec.shape)) for spec in program.weight_specs}
    units = {"weight.units": ("bfloat16", [8, scheme.units(64)])} if unit else {}
    assert {name: spec for name, spec in specs.items() if name.endswith("units")} == units


@pytest.mark.parametrize(
    "scheme",
    [
        Scheme(4, 16, unit=32),
        Scheme(4, 0, "none", False, "int8", unit=32),
        Scheme(4, 16, "none", False, "int8", unit=24),
    ],
)
def test_units_of_other_groups_are_refused(scheme: Scheme) -> None:
    with pytest.raises(InvalidValueError, match="or with units of whole groups int8"):
        compile(ir_of(nn.Linear(64, 8), X), quantized={"weight": scheme})


def test_a_shared_weight_is_prepared_once() -> None:
    linear = quantize_linears(nn.Linear(64, 64))
    program = compile(ir_of(nn.Sequential(linear, nn.ReLU(), linear), X))
    assert [op["op"] for op in program.data["prepare"]] == ["map"]
    assert [op["attrs"].get("bits") for op in program.data["main"]] == [8, 8]


@pytest.mark.parametrize("form", ["choose", "int_mm"])
def test_quantised_activations_are_refused_by_name(form: str) -> None:
    class Dynamic(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            if form == "int_mm":
                return torch._int_mm(x.to(torch.int8), torch.ones(64, 8, dtype=torch.int8))
            return torch.ops.quantized_decomposed.choose_qparams.tensor(x, -128, 127, 1e-6, torch.int8)

    name = {"choose": "quantized_decomposed.choose_qparams.tensor", "int_mm": "aten._int_mm.default"}[form]
    with pytest.raises(CompileError, match=rf"{name}.*: it quantises activations while the model runs"):
        compile(ir_of(Dynamic(), torch.zeros(32, 64)))


@pytest.mark.parametrize(
    ("block", "dtype", "message"),
    [([1, 48], torch.int8, r"in blocks of \[1, 48\]"), ([1, 64], torch.int32, "blocks of int32")],
)
def test_other_blocks_are_refused(block: list[int], dtype: torch.dtype, message: str) -> None:
    ir = ir_of(Exported("affine"), X)
    node = next(node for node in ir["nodes"] if node["op_type"].startswith("torchao"))
    node["attrs"]["block_size"] = block
    for meta in (ir["weights"][0], node["inputs"][0]):
        meta["dtype"] = str(dtype).removeprefix("torch.")
    with pytest.raises(CompileError, match=message):
        compile(ir)
