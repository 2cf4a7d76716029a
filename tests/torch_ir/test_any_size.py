"""An IR whose sizes are open gives, for every size, the IR that extraction with that size gives."""

import contextlib
import json
import random
from dataclasses import replace

import pytest
import torch
from npu_base.sizes import Size, SizeError, evaluate
from torch import nn
from torch.export import Dim
from torch_ir import IRExecutor, deserialize_ir, extract_ir, serialize_ir, validate_ir
from torch_ir.errors import ConversionError, ExportError, InvalidInputError, InvalidIRError, SerializationError
from torch_ir.shape_rules import shapes_given
from torch_ir.specialization import _on_meta

BATCH = Dim("batch", min=1, max=64)
PAIRS = Dim("batch", min=2)
LENGTH = Dim("length", min=2, max=128)


class Image(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Linear(8, 8)

    def forward(self, x):
        h = nn.functional.interpolate(self.conv(x), scale_factor=2.0)
        h = self.linear(h.flatten(2).transpose(1, 2)).view(x.shape[0], -1, 2, 4)
        return h * (x.shape[0] / 3.0) + torch.arange(x.shape[0])[:, None, None, None], x[: x.shape[0] // 2 + 1]


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.positions = nn.Embedding(50, 16), nn.Embedding(128, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, ids):
        return self.layer(self.words(ids) + self.positions(torch.arange(ids.shape[1])))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.qkv = nn.Embedding(50, 16), nn.Linear(16, 48)

    def forward(self, ids):
        n = ids.shape[1]
        q, k, v = (t.view(1, n, 2, 8).transpose(1, 2) for t in self.qkv(self.words(ids)).chunk(3, -1))
        angle = torch.arange(n, dtype=torch.float64)[:, None] * torch.ones(8, dtype=torch.float64)
        scores = (q * angle.cos().to(q.dtype)) @ k.transpose(-1, -2) * n**-0.5
        mask = torch.full((n, n), float("-inf")).triu(1)
        return ((scores + mask).softmax(-1) @ v).transpose(1, 2).reshape(1, n, 16)[:, -1]


def ids(*shape):
    return (torch.randint(0, 50, shape),)


CASES = {
    "image": (Image(), (torch.randn(4, 3, 32, 32),), ({0: BATCH, 2: Dim("height", min=8, max=512)},),
              [(torch.randn(b, 3, h, 32),) for b, h in ((1, 32), (2, 33), (7, 8))]),
    "encoder": (Encoder(), ids(3, 6), {"ids": {0: PAIRS, 1: LENGTH}}, [ids(3, 2), ids(5, 9), ids(2, 128)]),
    "decoder": (Decoder(), ids(1, 6), {"ids": {1: LENGTH}}, [ids(1, 2), ids(1, 17)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_specialized_equals_extracted(name):
    model, example, dims, others = CASES[name]
    model = model.double().eval()
    example = tuple(x.double() if x.is_floating_point() else x for x in example)
    ir = deserialize_ir(serialize_ir(extract_ir(model, example, dynamic_shapes=dims)))
    validate_ir(ir)
    for inputs in others:
        inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
        special = ir.specialize([x.shape for x in inputs])
        validate_ir(special)
        fixed = extract_ir(model, inputs)
        assert [(n.op_type, [(t.shape, t.dtype) for t in n.outputs]) for n in special.nodes] == [
            (n.op_type, [(t.shape, t.dtype) for t in n.outputs]) for n in fixed.nodes
        ]
        assert "sizes" not in special.to_dict() and special.to_dict()["schema_version"] == 2
        results = IRExecutor(special, model.state_dict(), strict=True).execute(inputs)
        expected = IRExecutor(fixed, model.state_dict(), strict=True).execute(inputs)
        assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


class Elementwise(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x)


OPS = {
    "view": lambda x: x.view(x.shape[0] * 2, -1),
    "expand": lambda x: x[:1].expand(x.shape[0], -1),
    "arange": lambda x: torch.arange(x.shape[0] * 2 - 1).float(),
    "slice": lambda x: x[x.shape[0] // 2 :],
    "pad": lambda x: nn.functional.pad(x, (0, x.shape[0])),
    "cat": lambda x: torch.cat([x, x, x[:1]]),
    "matmul": lambda x: x @ x.t(),
    "sum": lambda x: x.sum(0) / x.shape[0],
    "scale": lambda x: x * x.shape[0] ** 0.5,
    "split": lambda x: x.split(2, dim=1)[1],
    "full": lambda x: torch.full((x.shape[0], x.shape[0]), 2.0).tril(),
    "pool": lambda x: nn.functional.avg_pool1d(x[None].transpose(1, 2), 2),
}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("batch", [2, 5, 9])
def test_operators(name, batch):
    ir = extract_ir(Elementwise(OPS[name]).eval(), torch.zeros(4, 6), dynamic_shapes={"x": {0: Dim("b", min=2, max=9)}})
    x = torch.randn(batch, 6)
    (result,) = IRExecutor(ir.specialize(b=batch), {}, strict=True).execute(x)
    assert torch.equal(result, OPS[name](x))


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda x: x * 2 if x.shape[0] == 1 else x, "may be 1"),
        (lambda x: x * 2 if x.shape[0] % 2 == 0 else x, "batch = 2"),
        (lambda x: x.reshape(4, -1), "batch"),
        (lambda x: x.split(3, 0)[-1], "has ((2 + batch) // 3) == 2, which the model's code depends on"),
    ],
)
def test_ranges_that_the_model_does_not_support(fn, words):
    with pytest.raises(ExportError, match="batch") as error:
        extract_ir(Elementwise(fn).eval(), torch.zeros(4, 3), dynamic_shapes={"x": {0: BATCH}})
    assert words in str(error.value) and "TORCH_LOGS" not in str(error.value)


def test_a_size_for_which_the_trace_does_not_hold_is_refused():
    ir = extract_ir(Elementwise(lambda x: x.squeeze(0)).eval(), torch.zeros(4, 3), dynamic_shapes={"x": {0: BATCH}})
    assert ir.specialize(batch=3).graph_outputs[0].shape == (3, 3)
    with pytest.raises(InvalidInputError, match="does not hold for batch=1"):
        ir.specialize(batch=1)


class Ruled(nn.Module):
    """Operators whose shapes are known without PyTorch."""

    def __init__(self):
        super().__init__()
        self.bn, self.ln, self.linear = nn.BatchNorm2d(3), nn.LayerNorm([4, 4]), nn.Linear(4, 5, bias=False)

    def forward(self, x):
        return torch.relu(self.linear(self.ln(self.bn(x)))) * 2 + 1


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_shapes_that_are_known_without_pytorch_are_those_of_pytorch(batch):
    ir = extract_ir(Ruled().eval(), torch.zeros(4, 3, 4, 4), dynamic_shapes={"x": {0: BATCH}}).specialize(batch=batch)
    for node in ir.nodes:
        assert shapes_given(node) == _on_meta(node) == [tuple(t.shape) for t in node.outputs], node.op_type


def test_shapes_that_do_not_fit_are_left_to_pytorch():
    ir = extract_ir(Ruled().eval(), torch.zeros(4, 3, 4, 4), dynamic_shapes={"x": {0: BATCH}}).specialize(batch=2)
    for node in ir.nodes:
        if len(node.inputs) > 1:
            changed = [replace(node.inputs[0], shape=(2, 6, 4, 7)), *node.inputs[1:]]
            wrong = replace(node, inputs=changed)
            assert shapes_given(wrong) is None and _on_meta(wrong) == [], node.op_type
    (norm,) = [node for node in ir.nodes if "batch_norm" in node.op_type]
    assert shapes_given(replace(norm, attrs={**norm.attrs, "training": True})) is None


def test_wrong_sizes_and_readers_that_need_fixed_ones():
    ir = extract_ir(Elementwise(lambda x: x + 1).eval(), torch.zeros(4, 3), dynamic_shapes={"x": {0: BATCH}})
    assert ir.to_dict()["schema_version"] == 3
    for sizes, words in (({"batch": 65}, "1 to 64"), ({}, "missing"), ({"b": 2}, "unknown"), ({"batch": 2.0}, "int")):
        with pytest.raises(InvalidInputError, match=words):
            ir.specialize(**sizes)
    with pytest.raises(InvalidInputError, match="dimension 1 is 4, expected 3"):
        ir.specialize({"x": (2, 4)})
    with pytest.raises(InvalidInputError, match="fixed shapes"):
        ir.specialize(batch=2).specialize(batch=2)
    with pytest.raises(InvalidIRError, match=r"ir\.specialize\(batch=1\)"):
        IRExecutor(ir, {})
    with pytest.raises(ConversionError, match="Dynamic shape"):
        extract_ir(Elementwise(lambda x: x[x > 0]).eval(), torch.zeros(4, 3), dynamic_shapes={"x": {0: BATCH}})


def test_a_derived_size():
    root = Dim("half", min=1, max=8)
    ir = extract_ir(Elementwise(lambda x: x.view(-1, 2, 3)).eval(), torch.zeros(4, 3), dynamic_shapes=({0: 2 * root},))
    assert ir.specialize({"x": (10, 3)}).graph_outputs[0].shape == (5, 2, 3)
    with pytest.raises(InvalidInputError):
        ir.specialize({"x": (9, 3)})


def test_damaged_sizes():
    ir = extract_ir(Elementwise(lambda x: x + 1).eval(), torch.zeros(4, 3), dynamic_shapes={"x": {0: BATCH}})
    file = json.loads(serialize_ir(ir))
    file["graph_inputs"][0]["shape"][0] = "other"
    with pytest.raises(SerializationError, match="unknown sizes"):
        validate_ir(deserialize_ir(json.dumps(file)))
    file["graph_inputs"][0]["shape"][0] = "__import__('os')"
    with pytest.raises(SerializationError, match="expression"):
        deserialize_ir(json.dumps(file))


def test_expressions():
    values = {"a": 7, "b": 2}
    for text in ("a // b * 3 - -a % 4", "(a + 1) ** b", "min(a, b) + max(a, 9)", "a / b", "-a // 2", "2 ** -1"):
        assert evaluate(text, values) == eval(text, values.copy())
    for text in (
        "", "a +", "a.b", "f(a)", "a b", "9" * 30, "(" * 5000, "-" * 5000, "a[0]", "min()", "sqrt(a, b)", "a" * 20000,
    ):  # fmt: skip
        with pytest.raises(SizeError):
            Size(text)
    for text in ("c", "a // 0", "9 ** 9 ** 9", "sqrt(-1)", "exp(1000)", "2 ** 64", "float(10 ** 18) ** 63"):
        with pytest.raises(SizeError):
            evaluate(text, values)


def test_random_text_is_a_value_or_a_size_error():
    rng = random.Random(0)
    parts = [
        "a",
        "b",
        "0",
        "7",
        "1.5",
        "1e308",
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "**",
        "(",
        ")",
        ",",
        "min(",
        "sqrt(",
        "==",
    ]
    for _ in range(20000):
        text = " ".join(rng.choices(parts, k=rng.randint(1, 9)))
        with contextlib.suppress(SizeError):
            evaluate(text, {"a": 7, "b": 0})
