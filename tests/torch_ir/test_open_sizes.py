"""Models of many kinds with open sizes give, at every size, what the model gives, or are refused."""

import json
import random
import subprocess
import sys

import npu
import npu_compiler
import pytest
import torch
from npu_base.size_rules import fixed_ir
from npu_compiler import IRError
from torch import nn
from torch.export import Dim
from torch.utils import _pytree as pytree
from torch_ir import (
    IR,
    IRExecutor,
    deserialize_ir,
    extract_ir,
    ir_to_mermaid,
    serialize_ir,
    validate_ir,
    verify_ir_with_state_dict,
)
from torch_ir.diff import diff_ir
from torch_ir.errors import ExportError, InvalidInputError, InvalidIRError, SizeWarning
from torch_ir.open_shapes import leaf_specs
from torch_ir.specialization import rules_of

from tests.models import MODEL_REGISTRY

BATCH = Dim("batch", min=1, max=64)
LENGTH = Dim("length", min=1, max=64)
HEIGHT, WIDTH = Dim("height", min=8, max=256), Dim("width", min=8, max=256)


class Call(nn.Module):
    def __init__(self, function, **children):
        super().__init__()
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, x):
        return self.function(self, x)


class Call2(Call):
    def forward(self, x, y):
        return self.function(self, x, y)


class Written(nn.Module):
    """Writes buffers in place, by values that depend on the size."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        self.count.add_(x.shape[0])
        self.mean[: x.shape[1]] = x.mean(0)
        return x - self.mean[: x.shape[1]] / self.count


class Named(nn.Module):
    def forward(self, x, options=None, *, scale=None):
        return {"sum": x + options["shift"], "scaled": x.flip(0) * scale}


class Loop(nn.Module):
    def forward(self, x, n):
        def going(i, x):
            return i < n

        def step(i, x):
            return i + 1, x.roll(1, 0) * 2 + x.sum(0) / x.shape[1]

        return torch._higher_order_ops.while_loop(going, step, (torch.zeros((), dtype=torch.int64), x))


def branching(self, x):
    return torch.cond(x.sum() > 0, lambda x: x.cumsum(0), lambda x: (x - x.mean(0)).abs(), (x,))


def convolving(self, x):
    h = self.pool(self.norm(self.conv(x)).relu())
    return self.head(nn.functional.adaptive_avg_pool2d(h, 1).flatten(1)), h


def cached(self, x, keys):
    keys = torch.cat([keys, self.k(x)], 1)
    mask = torch.ones(x.shape[1], keys.shape[1], dtype=torch.bool).tril(keys.shape[1] - x.shape[1])
    return nn.functional.scaled_dot_product_attention(x, keys, keys, mask), keys


def numbered(self, x):
    return x + torch.arange(x.shape[1]) - torch.full((x.shape[1],), 2.0).expand_as(x) * x.shape[0] ** 0.5


CONV = {"conv": nn.Conv2d(3, 6, 3, 2, 1), "norm": nn.BatchNorm2d(6), "head": nn.Linear(6, 4),
        "pool": nn.AvgPool2d(3, 2)}  # fmt: skip
OPEN = {0: BATCH, 1: LENGTH}
IMAGE = {0: BATCH, 2: HEIGHT, 3: WIDTH}
KINDS = {
    "convolutions of odd sizes": (Call(convolving, **CONV), (torch.randn(2, 3, 16, 19),), (IMAGE,)),
    "pooling that rounds up": (nn.AvgPool2d(3, 2, ceil_mode=True), (torch.randn(2, 3, 16, 19),),
                               ({0: BATCH, 2: Dim.AUTO, 3: Dim.AUTO},)),
    "transformer encoder": (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (torch.randn(2, 5, 16),), (OPEN,)),
    "lstm": (nn.LSTM(6, 5, 2, bidirectional=True, batch_first=True), (torch.randn(2, 5, 6),), ({0: BATCH},)),
    "cache": (Call2(cached, k=nn.Linear(8, 8)), (torch.randn(1, 3, 8), torch.randn(1, 4, 8)),
              ({1: LENGTH}, {1: Dim("past", min=1, max=64)})),
    "cat, split, slice": (Call(lambda self, x: (torch.cat([x, x[:1]]), *x.split(2, 1), x[x.shape[0] // 2 :], x[::2])),
                          (torch.randn(4, 6),), ({0: BATCH},)),
    "numbers": (Call(numbered), (torch.randn(4, 6),), (OPEN,)),
    "reshape": (Call(lambda self, x: x.reshape(x.shape[0] // 2, -1)), (torch.randn(4, 6),), ({0: 2 * BATCH},)),
    "pixel shuffle": (nn.PixelShuffle(2), (torch.randn(2, 8, 9, 10),), (IMAGE,)),
    "interpolate": (Call(lambda self, x: nn.functional.interpolate(x, scale_factor=1.5, mode="bilinear")),
                    (torch.randn(2, 3, 9, 10),), (IMAGE,)),
    "unfold": (Call(lambda self, x: (x.unfold(2, 3, 2), nn.functional.unfold(x, 3, stride=2))),
               (torch.randn(2, 3, 9, 10),), (IMAGE,)),
    "branches": (Call(branching), (torch.randn(4, 6),), ({0: BATCH},)),
    "loop": (Loop(), (torch.randn(4, 6), torch.tensor(3)), ({0: BATCH}, None)),
    "buffers": (Written(), (torch.randn(4, 6),), ({0: BATCH, 1: Dim("part", min=1, max=6)},)),
}  # fmt: skip


def random_like(example, ir, generator):
    """Inputs with the shapes that a specialised IR takes."""
    shapes = iter([t.shape for t in ir.graph_inputs])

    def like(x):
        if not isinstance(x, torch.Tensor):
            return x
        shape = next(shapes)
        if x.is_floating_point() or x.is_complex():
            return torch.randn(shape, generator=generator).to(x.dtype)
        most = int(x.max()) + 1 if x.numel() else 2
        return torch.randint(0, max(most, 1), shape, generator=generator).to(x.dtype)

    return pytree.tree_map(like, example)


def check_equal(model, example, ir, sizes, seed=0):
    """Compare outputs and written buffers with those of the model itself."""
    special = ir.specialize(**sizes)
    validate_ir(special)
    assert IR.from_dict(fixed_ir(ir.to_dict(), sizes)[0]) == special  # the way without PyTorch
    inputs = random_like(example, special, torch.Generator().manual_seed(seed))
    executor = IRExecutor(special, {k: v.clone() for k, v in model.state_dict().items()}, strict=True)
    own = {k: v.clone() for k, v in model.state_dict().items()}
    results = executor.execute(inputs)
    with torch.no_grad():
        expected = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    written = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(own)
    wanted = [x for x in pytree.tree_leaves(expected) if isinstance(x, torch.Tensor)]
    for got, want in zip(results, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5, equal_nan=True)
    return {name: value for name, value in written.items() if not torch.equal(value, own[name])}


@pytest.mark.parametrize("name", KINDS)
def test_kinds(name):
    model, example, dims = KINDS[name]
    model = model.eval()
    ir = deserialize_ir(serialize_ir(extract_ir(model, example, dynamic_shapes=dims)))
    validate_ir(ir)
    rng = random.Random(0)
    for seed in range(6):
        sizes = {s.name: rng.randint(s.least, min(s.most or 99, s.least + 9 * (seed > 1))) for s in ir.sizes}
        check_equal(model, example, ir, sizes, seed)


def test_written_buffers():
    model, example, dims = KINDS["buffers"]
    ir = extract_ir(model.eval(), example, dynamic_shapes=dims)
    for batch, part in ((1, 6), (3, 2)):
        special = ir.specialize(batch=batch, part=part)
        executor = IRExecutor(special, {k: v.clone() for k, v in model.state_dict().items()})
        executor.execute(torch.ones(batch, part))
        (mean,) = (m.value for m in special.mutations if m.target == "mean")
        assert mean.shape == (6,)
        assert {m.target for m in special.mutations} == {"count", "mean"}


def test_keywords_nested_and_meta():
    example = ({"x": torch.empty(4, 3, device="meta"), "options": {"shift": torch.empty(4, 1, device="meta")},
                "scale": torch.empty(4, 3, device="meta")})  # fmt: skip
    dims = {"x": {0: BATCH}, "options": {"shift": {0: BATCH}}, "scale": {0: BATCH}}
    ir = extract_ir(Named(), example, dynamic_shapes=dims)
    special = ir.specialize(batch=7)
    x, shift, scale = torch.randn(7, 3), torch.randn(7, 1), torch.randn(7, 3)
    total, scaled = IRExecutor(special, {}).execute({"x": x, "options": {"shift": shift}, "scale": scale})
    assert torch.equal(total, x + shift) and torch.equal(scaled, x.flip(0) * scale)
    with pytest.raises(InvalidInputError, match="'scale': dimension 0 is 3, expected 2"):
        ir.specialize({"x": (2, 3), "options_shift": (2, 1), "scale": (3, 3)})


@pytest.mark.parametrize("batch", [1, 4])
def test_an_example_of_size_one_leaves_the_size_open(batch):
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    ir = extract_ir(model, torch.randn(batch, 5, 8), dynamic_shapes=({0: BATCH, 1: LENGTH},))
    assert [str(s) for s in ir.sizes] == ["batch: 1 to 64", "length: 1 to 64"] and not ir.conditions


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_in_place_ops_of_images_in_any_layout(layout):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(inplace=True), nn.Conv2d(4, 2, 1)).eval()
    image = torch.randn(2, 3, 8, 8).contiguous(memory_format=layout)
    ir = extract_ir(model, image, dynamic_shapes=({0: BATCH},))
    assert [str(s) for s in ir.sizes] == ["batch: 1 to 64"] and not ir.conditions
    assert [node.op_type.split(".")[1] for node in ir.nodes] == ["conv2d", "batch_norm", "hardswish", "conv2d"]


def test_a_layout_that_the_model_asks_for_is_that_of_size_one_too():
    def laid(self, x):
        return x * 2 if x.is_contiguous(memory_format=torch.channels_last) else x

    image = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    ir = extract_ir(Call(laid), image, dynamic_shapes=({0: BATCH},))
    assert [str(s) for s in ir.sizes] == ["batch: 1 to 64"] and len(ir.nodes) == 1


def test_size_one_that_the_model_treats_apart_is_refused():
    def half(self, x):
        return x * 2 if x.shape[0] == 1 else x.transpose(0, 1).contiguous()

    with pytest.raises(ExportError, match=r"'batch' \(dimension 0 of .*\) may be 1.*Dim\('batch', min=2\)"):
        extract_ir(Call(half), torch.zeros(4, 3), dynamic_shapes=({0: BATCH},))
    ir = extract_ir(Call(half), torch.zeros(4, 3), dynamic_shapes=({0: Dim("batch", min=2)},))
    with pytest.raises(InvalidInputError, match="from|at least 2"):
        ir.specialize(batch=1)


def test_a_constant_result_that_differs_for_size_one_is_refused():
    class Telling(nn.Module):
        def forward(self, x):
            return x * 2, 7 if x.shape[0] == 1 else 8

    with pytest.raises(ExportError, match="something else for a size of 1"):
        extract_ir(Telling(), torch.zeros(3, 4), dynamic_shapes=({0: Dim("rows", min=1, max=9)},))


def test_a_size_that_must_be_larger_than_one():
    def fn(self, x):
        return x * 2 if x.shape[0] > 1 else x

    with pytest.raises(ExportError, match=r"'batch' \(dimension 0 of 'x'\) may be 1.*Dim\('batch', min=2\)"):
        extract_ir(Call(fn), torch.zeros(4, 3), dynamic_shapes=({0: BATCH},))
    ir = extract_ir(Call(fn), torch.zeros(4, 3), dynamic_shapes=({0: Dim("batch", max=64)},))
    with pytest.raises(InvalidInputError, match="batch"):
        ir.specialize(batch=1)


class Assigned(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("held", torch.zeros(2, 3))

    def forward(self, x):
        self.held = x * 2
        return x + 1


def test_a_size_that_a_buffer_fixes():
    with pytest.raises(ExportError, match=r"'batch' \(dimension 0 of 'x'\) can only be 2"):
        extract_ir(Assigned(), torch.zeros(2, 3), dynamic_shapes=({0: BATCH},))
    with pytest.warns(SizeWarning, match="the model's code fixes dimension 0 of 'x' at 2"):
        ir = extract_ir(Assigned(), torch.zeros(2, 3), dynamic_shapes=({0: Dim.AUTO},))
    assert not ir.sizes and ir.graph_inputs[0].shape == (2, 3)


def test_advice_does_not_go_in_a_circle():
    """Dim.AUTO would fix a size that can only be one number, and then another call would be told to write a Dim."""
    lstm, x = nn.LSTM(8, 4, batch_first=True), torch.zeros(2, 6, 8)
    with pytest.raises(ExportError, match="'length' can only be 6") as error:
        extract_ir(lstm, x, dynamic_shapes=({1: LENGTH},))
    assert "Dim.AUTO" not in str(error.value)
    assert str(error.value).endswith("leave 'length' out of dynamic_shapes, and extract or compile each size apart")
    with pytest.warns(SizeWarning, match="fixes dimension 1 of 'input' at 6, .*extract or compile other sizes apart"):
        extract_ir(lstm, x, dynamic_shapes=({1: Dim.AUTO},))
    fn = Call(lambda self, x: x * 2 if x.shape[0] > 4 else x * 3)
    ir = extract_ir(fn, torch.zeros(3, 4), dynamic_shapes=({0: Dim.AUTO},))
    with pytest.raises(InvalidInputError, match=r"only for sizes with \(x_0 <= 4\), because of its code; got x_0=6"):
        ir.specialize([(6, 4)])
    with pytest.raises(ExportError, match=r"has h <= 4, which .*Instead, write h = Dim\('h', max=4\), or use Dim.AUTO"):
        extract_ir(fn, torch.zeros(3, 4), dynamic_shapes=({0: Dim("h")},))
    with pytest.raises(ExportError, match=r"has 5 <= h, which .*Instead, write h = Dim\('h', min=5\), or use Dim.AUTO"):
        extract_ir(fn, torch.zeros(6, 4), dynamic_shapes=({0: Dim("h")},))


def test_the_form_that_nested_inputs_need():
    class Takes(nn.Module):
        def forward(self, *xs, **more):
            return xs[0] + 1

    x, batch = torch.zeros(2, 3), "{0: torch.export.Dim('batch', max=64)}"
    for inputs, kwargs, form in (
        ((x,), {}, f"{{'xs': ({batch},)}}"),
        ((x, x), {}, f"{{'xs': ({batch}, None)}}"),
        (([2, x],), {}, f"{{'xs': ([None, {batch}],)}}"),
        ((2,), {"y": x}, f"{{'xs': (None,), 'more': {{'y': {batch}}}}}"),
    ):
        with pytest.raises(ExportError) as error:
            extract_ir(Takes(), inputs, kwargs, dynamic_shapes={"xs": {0: BATCH}})
        assert str(error.value).endswith(f"by input name or in order: {form}")
        assert leaf_specs(Takes(), inputs, kwargs, eval(form))  # it is accepted


def test_a_rule_that_pytorch_cannot_solve():
    dims = ({2: HEIGHT, 3: WIDTH},)
    with pytest.raises(ExportError, match=r"needs|has .*Dim\.AUTO"):
        extract_ir(nn.AvgPool2d(3, 2, ceil_mode=True), torch.randn(2, 3, 16, 19), dynamic_shapes=dims)


def test_two_sizes_that_are_one_together():
    def fn(self, x):
        return x * 2 if x.shape[0] * x.shape[1] == 1 else x

    try:
        ir = extract_ir(Call(fn), torch.zeros(4, 3), dynamic_shapes=({0: BATCH, 1: LENGTH},))
    except ExportError:
        return
    with pytest.raises(InvalidInputError):
        ir.specialize(batch=1, length=1)


def test_a_size_in_two_inputs():
    ir = extract_ir(Call2(lambda self, a, b: a + b), (torch.zeros(4, 3), torch.zeros(4, 3)),
                    dynamic_shapes=({0: BATCH}, {0: BATCH}))  # fmt: skip
    with pytest.raises(InvalidInputError, match=r"dimension 0 is 3, expected 2 \(batch\)"):
        ir.specialize([(2, 3), (3, 3)])


@pytest.mark.parametrize("dims", [(Dim.AUTO, Dim.AUTO), (None, Dim.AUTO), (Dim.AUTO, None)])
@pytest.mark.parametrize("function", [lambda self, a, b: a + b, lambda self, a, b: torch.cat([a, b], 1)])
def test_open_sizes_that_differ_in_the_example(function, dims):
    example = (torch.zeros(2, 4), torch.zeros(3, 4) if None in dims else torch.zeros(1, 4))
    with pytest.raises(ExportError, match="needs two sizes to be equal, .* the same Dim, .* leave it out"):
        extract_ir(Call2(function), example, dynamic_shapes=tuple({0: dim} for dim in dims))


DOUBLED = {
    "of any layout": lambda self, a, b: a.repeat(2, 1) + b,
    "that asks for the layout": lambda self, a, b: a.transpose(0, 1).contiguous().t().repeat(2, 1) + b,
    "that reads one input": lambda self, a, b: b * 2,
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", DOUBLED)
def test_sizes_that_derive_from_one_that_may_be_1(name, batch):
    model, dims = Call2(DOUBLED[name]), ({0: BATCH}, {0: 2 * BATCH})
    ir = extract_ir(model, (torch.zeros(batch, 4), torch.zeros(2 * batch, 4)), dynamic_shapes=dims)
    assert [str(s) for s in ir.sizes] == ["batch: 1 to 64"]
    for n in (1, 2, 5):
        inputs = torch.randn(n, 4), torch.randn(2 * n, 4)
        torch.testing.assert_close(IRExecutor(ir.specialize(batch=n), {}).execute(inputs)[0], model(*inputs))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_size_that_no_input_has_as_it_is(batch):
    ir = extract_ir(Call(lambda self, x: x * 2), torch.zeros(2 * batch + 1, 4), dynamic_shapes=({0: 2 * BATCH + 1},))
    assert ir.specialize([(3, 4)]).graph_inputs[0].shape == (3, 4)
    with pytest.raises(InvalidInputError, match=r"dimension 0 is 4, expected 3 \(.*2 \* batch.*\)"):
        ir.specialize([(4, 4)])


@pytest.mark.parametrize(
    ("shapes", "dims", "words"),
    [
        ([(3, 4), (7, 4)], (BATCH, 2 * BATCH), r"of 'y', which is 2\*batch, is 7 .* no whole 'batch' gives that"),
        ([(3, 4), (8, 4)], (BATCH, 2 * BATCH), r"Dim\('batch'\) is 3 .* of 'x'\) and 4 \(.* which is 2\*batch\)"),
        ([(3, 4), (999, 4)], (None, 3 * BATCH), r"is 333 in the example inputs, but Dim\('batch'\) goes from 1 to 64"),
        ([(2, 4), (2, 4)], (3, None), r"of 'x' is 2 .* but 3 in dynamic_shapes, which fixes it; .*Dim\('x_0', max=3\)"),
    ],
)
def test_examples_that_do_not_fit_their_dimensions(shapes, dims, words):
    with pytest.raises(ExportError, match=words):
        extract_ir(
            Call2(lambda self, x, y: (x * 2, y * 2)), tuple(map(torch.zeros, shapes)),
            dynamic_shapes=tuple({0: dim} for dim in dims),
        )  # fmt: skip


def test_dimensions_that_pytorch_would_not_name_as_they_are():
    model, x = Call(lambda self, x: x * 2), torch.zeros(3, 4)
    with pytest.raises(ExportError, match=r"counted from the end, -1 of 'x'; write 1"):
        extract_ir(model, x, dynamic_shapes={"x": {-1: BATCH}})
    with pytest.raises(ExportError, match=r"dimension 0 of 'x' has a Dim whose name .*, 'b_é'; expected letters"):
        extract_ir(model, x, dynamic_shapes={"x": {0: Dim("b_é", max=64)}})


TWO_INPUTS = {
    "add": lambda self, a, b: a + b,
    "product": lambda self, a, b: a @ b.t(),
    "cat": lambda self, a, b: torch.cat([a, b], 1),
    "where": lambda self, a, b: torch.where(a > 0, a, b),
    "expand": lambda self, a, b: a[:1].expand(b.shape[0], -1) + b,
    "slice": lambda self, a, b: a[: b.shape[0]] + b,
    "view": lambda self, a, b: a.reshape(b.shape) + b,
    "einsum": lambda self, a, b: torch.einsum("ij,kj->ik", a, b),
}


@pytest.mark.parametrize("name", TWO_INPUTS)
def test_sizes_that_do_not_fit_each_other(name):
    """Each pair of shapes is right or refused, also without PyTorch where no extent is below 2."""
    model = Call2(TWO_INPUTS[name])
    both = {0: Dim.AUTO, 1: Dim.AUTO}
    ir = extract_ir(model, (torch.zeros(4, 6), torch.zeros(4, 6)), dynamic_shapes=(both, both))
    shapes = [(4, 6), (2, 6), (5, 6), (3, 4), (1, 6), (6, 4), (1, 1)]
    right = 0
    for a, b in ((torch.randn(s), torch.randn(t)) for s in shapes for t in shapes):
        try:
            sizes = rules_of(ir).sizes_of([a.shape, b.shape])
        except InvalidInputError:
            continue
        fixed, least = fixed_ir(ir.to_dict(), sizes)
        try:
            special = ir.specialize(**sizes)
        except InvalidInputError:
            assert least < 2
            continue
        for one in (special, IR.from_dict(fixed)):
            torch.testing.assert_close(IRExecutor(one, {}).execute((a, b))[0], model(a, b))
            right += 1
    assert right >= 4


def small():
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU()).eval()
    return model, extract_ir(model, torch.zeros(4, 8), dynamic_shapes=({0: BATCH},))


def test_readers_of_open_sizes(tmp_path):
    model, ir = small()
    assert "sizes=[batch: 1 to 64]" in repr(ir)
    assert "batchx8" in ir_to_mermaid(ir)
    assert diff_ir(ir, small()[1]).is_same
    other = extract_ir(model, torch.zeros(4, 8), dynamic_shapes=({0: Dim("batch", min=1, max=32)},))
    assert diff_ir(ir, other).metadata == ["open sizes: batch: 1 to 64 -> batch: 1 to 32"]
    assert not diff_ir(ir, extract_ir(model, torch.zeros(4, 8))).is_same
    for refuse in (npu_compiler.compile, npu_compiler.partition, npu.explain):
        with pytest.raises(IRError, match=r"got batch; expected fixed shapes; try ir.specialize\(batch=4\)"):
            refuse(ir)
    with pytest.raises(InvalidIRError, match=r"specialize\(batch=1\)"):
        IRExecutor(ir, model.state_dict())
    passed, report = verify_ir_with_state_dict(ir, model.state_dict(), model, torch.zeros(4, 8))
    assert not passed and "ir.specialize(batch=1)" in report.error_message


def test_commands(tmp_path):
    ir = small()[1]
    file = tmp_path / "open.json"
    ir.save(file)

    def run(*args):
        done = subprocess.run([sys.executable, "-m", "torch_ir", *args], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    code, out, _ = run("info", file)
    assert code == 0 and "Open size: batch: 1 to 64" in out and "input: [batch, 8]" in out
    assert json.loads(run("info", file, "--json")[1])["open_sizes"] == ["batch: 1 to 64"]
    code, _, error = run("verify", file, "--model", "torch.nn:ReLU")
    assert code != 0 and "ir.specialize(batch=1)" in error and "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODEL_REGISTRY))
def test_registered_models(name):
    """All sizes open, as far as PyTorch finds them open: each random size is right or refused."""
    spec = MODEL_REGISTRY[name]
    model, example = spec.build(), spec.inputs()
    if spec.make_inputs is None:
        example = tuple(x.repeat_interleave(4, 0) for x in example)

    def all_open(x):
        return dict.fromkeys(range(x.dim()), Dim.AUTO) if isinstance(x, torch.Tensor) and x.dim() else None

    ir = extract_ir(model, example, dynamic_shapes=pytree.tree_map(all_open, example))
    validate_ir(ir)
    leaves = [x for x in pytree.tree_leaves(example) if isinstance(x, torch.Tensor)]
    own = rules_of(ir).sizes_of([x.shape for x in leaves])
    check_equal(model, example, ir, own)
    rng = random.Random(0)
    for seed in range(15):
        sizes = dict(own)
        for size in rng.sample(sorted(own), rng.randint(1, len(own))):
            sizes[size] = rng.choice([1, 2, 3, 5, 8, own[size] + 1, own[size] * 2])
        try:
            check_equal(model, example, ir, sizes, seed)
        except InvalidInputError:
            continue
