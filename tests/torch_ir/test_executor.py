"""Execution: arguments, freeing, errors, custom operators, and results equal to eager PyTorch to the bit."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch_ir import (
    IR,
    ExecutionError,
    ExportError,
    IRExecutor,
    NodeInfo,
    OpNode,
    TensorMeta,
    execute_ir,
    extract_ir,
    list_registered_ops,
    register_executor,
    register_op,
    save_ir,
)
from torch_ir.converter import convert_node
from torch_ir.executor import TensorRegistry
from torch_ir.ops import clear_registry, get_execution_fn, is_supported_op

from tests.torch_ir.proof import Fn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.norm = nn.LayerNorm(3)

    def forward(self, x):
        return self.norm(self.fc(x)).relu()


@pytest.fixture
def net():
    torch.manual_seed(0)
    model = Net().eval()
    return model, extract_ir(model, torch.randn(1, 4))


@pytest.fixture(autouse=True)
def _clean_registry():
    yield
    clear_registry()


def test_ways_to_run(net, tmp_path):
    model, ir = net
    x = torch.randn(1, 4)
    want = model(x)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    executor = IRExecutor(ir)
    with pytest.raises(ExecutionError, match="Weights not loaded"):
        executor.execute((x,))
    executor.load_weights(tmp_path / "w.pt")
    for out in (
        executor.execute((x,)),
        executor.execute([x]),
        executor.execute(x),
        executor.execute({"x": x}),
        executor(x),
        executor(x=x),
        execute_ir(ir, (x,), weights=model.state_dict()),
        execute_ir(ir, (x,), weights_path=tmp_path / "w.pt"),
    ):
        assert isinstance(out, tuple) and len(out) == 1
        assert torch.equal(out[0], want)
        assert not out[0].requires_grad
    with pytest.raises(ValueError, match="Either weights or weights_path must be provided"):
        execute_ir(ir, (x,))


def test_batch_may_differ_unless_strict(net):
    model, ir = net
    x = torch.randn(7, 4)
    assert torch.equal(IRExecutor(ir, model.state_dict())(x)[0], model(x))
    with pytest.raises(ExecutionError, match=r"Input 'x': got shape \[7, 4\], expected \[1, 4\]"):
        IRExecutor(ir, model.state_dict(), strict=True)(x)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), "Expected 1 inputs, got 0"),
        ((torch.zeros(1, 4), torch.zeros(1)), "Expected 1 inputs, got 2"),
        ((torch.zeros(1, 5),), r"Input 'x': got shape \[1, 5\], expected \[\*, 4\]"),
        ((torch.zeros(4),), r"got shape \[4\]"),
        ((torch.zeros(1, 4).double(),), "got dtype float64, expected float32"),
        (([[1.0]],), "Input 0: got float, traced with a tensor"),
        ((__import__("numpy").zeros((1, 4)),), "Input 0: expected a tensor, got ndarray"),
        ({"y": torch.zeros(1, 4)}, "Keyword inputs do not match|Expected"),
    ],
)
def test_bad_inputs(net, inputs, message):
    model, ir = net
    with pytest.raises(ExecutionError, match=message):
        IRExecutor(ir, model.state_dict()).execute(inputs)


def test_non_tensor_arguments_are_checked():
    class Scaled(nn.Module):
        def forward(self, x, n: int, mode=None):
            return x * n

    ir = extract_ir(Scaled().eval(), (torch.ones(2), 3))
    executor = IRExecutor(ir, {})
    assert executor.execute((torch.ones(2), 3))[0].tolist() == [3.0, 3.0]
    assert executor.execute((torch.ones(2),))[0].tolist() == [3.0, 3.0]
    with pytest.raises(ExecutionError, match="Input 1 is 4, but the graph was traced with 3"):
        executor.execute((torch.ones(2), 4))


def test_bad_weights_are_all_named(net):
    model, ir = net
    sd = {**model.state_dict(), "fc.weight": torch.zeros(4, 3), "fc.bias": torch.zeros(3).double()}
    with pytest.raises(ExecutionError) as e:
        IRExecutor(ir, sd)
    assert "Shape mismatch for 'fc.weight': expected (3, 4), got (4, 3)" in str(e.value)
    assert "Dtype mismatch for 'fc.bias': expected torch.float32, got torch.float64" in str(e.value)


def test_missing_weights(net):
    _, ir = net
    with pytest.raises(
        ExecutionError, match=r"'fc.weight' not found in registry for node 'linear'.*4 weights are missing"
    ):
        IRExecutor(ir, {})(torch.zeros(1, 4))


def test_constants_of_the_caller_win():
    class Const(nn.Module):
        def forward(self, x):
            return x + torch.tensor([1.0, 2.0])

    ir = extract_ir(Const().eval(), torch.zeros(2))
    (name,) = ir.constants
    assert execute_ir(ir, (torch.zeros(2),), {})[0].tolist() == [1.0, 2.0]
    assert execute_ir(ir, (torch.zeros(2),), {}, constants={name: torch.tensor([5.0, 6.0])})[0].tolist() == [
        5.0,
        6.0,
    ]


def test_errors_name_node_op_module_and_source(net):
    model, ir = net
    ir.nodes[1].attrs["normalized_shape"] = [7]
    with pytest.raises(
        ExecutionError,
        match=r"Failed to execute node 'layer_norm' \(op: aten.layer_norm.default\): .*norm.*test_executor.py",
    ):
        IRExecutor(ir, model.state_dict())(torch.zeros(1, 4))


def one_node(op_type: str, **attrs) -> IR:
    x = TensorMeta("x", (2,), "float32")
    node = OpNode("n", op_type, [TensorMeta("x", (2,), "float32", "x")], [TensorMeta("n", (2,), "float32")], attrs)
    return IR([node], [x], [TensorMeta("n", (2,), "float32")], [])


@pytest.mark.parametrize(
    ("ir", "message"),
    [
        (
            one_node("aten.no_such_op.default"),
            "No execution function registered for op_type 'aten.no_such_op.default'",
        ),
        (one_node("wrap_with_set_grad_enabled"), "No execution function registered"),
        (one_node("aten.pow.Tensor_Scalar"), "attribute 'exponent' is missing"),
        (one_node("aten.zeros.default", size=[2]), "1 of its 1 inputs match no argument"),
        (one_node("aten.mul.Tensor"), "no input for argument 'other'"),
        (one_node("<built-in function getitem>", index=3), "it takes output 3 of 1"),
    ],
)
def test_nodes_that_cannot_run(ir, message):
    with pytest.raises(ExecutionError, match=message):
        IRExecutor(ir, {})(torch.zeros(2))


def test_ops_that_read_files_are_refused():
    ir = one_node("aten.from_file.default", filename="secret", size=2)
    with pytest.raises(ExecutionError, match="reads files"):
        IRExecutor(ir, {})(torch.zeros(2))


def test_intermediates_are_freed_at_their_last_use(net):
    class Chain(nn.Module):
        def forward(self, x):
            for _ in range(4):
                x = x * 2
            return x

    ir = extract_ir(Chain().eval(), torch.ones(3))
    alive: list[int] = []
    refs: list[weakref.ref] = []

    def observe(_node, results):
        refs.extend(weakref.ref(r) for r in results)
        gc.collect()
        alive.append(sum(r() is not None for r in refs))

    IRExecutor(ir, {}).run_observed((torch.ones(3),), observe)
    assert max(alive) <= 2, alive


def test_no_autograd_graph_is_built():
    model = Net().eval()
    ir = extract_ir(model, torch.randn(1, 4))
    (out,) = execute_ir(ir, (torch.randn(1, 4, requires_grad=True),), weights=dict(model.named_parameters()))
    assert out.grad_fn is None and not out.requires_grad


def test_state_survives_many_threads():
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("n", torch.zeros(1))

        def forward(self, x):
            self.n.add_(1)
            return x + self.n

    model = Counter().eval()
    executor = IRExecutor(extract_ir(model, torch.zeros(1)), model.state_dict())
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda _: executor(torch.zeros(1))[0].item(), range(400)))
    assert sorted(seen) == [float(i) for i in range(1, 401)]


def test_one_tensor_given_twice_is_two_inputs():
    class Uneven(nn.Module):
        def forward(self, a, b):
            return a - 2 * b

    t = torch.ones(3)
    for example in ((t, t), {"a": t, "b": t}):
        ir = extract_ir(Uneven().eval(), example)
        (out,) = execute_ir(ir, (torch.full((3,), 1.0), torch.full((3,), 5.0)), {})
        assert out.tolist() == [-9.0] * 3


def test_surroundings_do_not_leak_in():
    class Makes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(x) + torch.ones(3) * torch.arange(3) + torch.full((3,), 0.1)

    model, x = Makes().eval(), torch.randn(2, 3)
    ir = extract_ir(model, x)
    want = model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(IRExecutor(ir, model.state_dict())(x)[0], want)
        with pytest.raises(ExportError, match="Autocast is active"):
            extract_ir(model, x)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(IRExecutor(ir, model.state_dict())(x)[0], want)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda ir, m: IRExecutor("ir.json", {}), "Expected an IR, got str"),
        (lambda ir, m: IRExecutor(ir, "w.pt"), "weights: expected a dict of tensors by name, got str"),
        (IRExecutor, r"got Net; pass model\.state_dict\(\)"),
        (lambda ir, m: IRExecutor(ir, {}, constants=[1]), "constants: expected a dict"),
        (lambda ir, m: IRExecutor(ir, m.to("meta").state_dict()), "On meta, so without data"),
        (lambda ir, m: IRExecutor(ir, m.state_dict()).execute(None), "Expected a tuple of inputs"),
        (lambda ir, m: IRExecutor(ir, m.state_dict())(torch.empty(1, 4, device="meta")), "on meta, so it has no data"),
        (lambda ir, m: IRExecutor(ir, m.state_dict())(y=torch.zeros(1, 4)), r"unknown \['y'\], expected \['x'\]"),
    ],
)
def test_things_of_another_kind(net, make, message):
    model, ir = net
    with pytest.raises(ExecutionError, match=message):
        make(ir, model)


def test_registry():
    registry = TensorRegistry()
    registry["a"] = torch.ones(1)
    registry.register("b", torch.zeros(1))
    assert "a" in registry and registry.has("b") and registry.get("c") is None and len(registry) == 2
    registry.clear()
    assert not registry.has("a")


class TestCustom:
    def test_exact_overload_first_and_no_hijacking(self, net):
        @register_executor("aten.add.Tensor")
        def wrong_add(inputs, attrs):
            return [inputs[0] * 0]

        assert get_execution_fn("aten.add.Tensor") is wrong_add
        assert get_execution_fn("aten.add.Scalar") is None

        @register_executor("aten.add")
        def any_add(inputs, attrs):
            return [inputs[0] + 100]

        assert get_execution_fn("aten.add.Scalar") is any_add
        assert get_execution_fn("aten.add.Tensor") is wrong_add
        assert list_registered_ops()["execution"][-2:] == ["aten.add", "aten.add.Tensor"]

    def test_executor_replaces_an_op(self, net):
        model, ir = net

        @register_executor("aten.relu.default")
        def relu(inputs, attrs):
            return [torch.from_numpy(inputs[0].numpy().clip(min=0))]

        x = torch.randn(1, 4)
        assert torch.equal(IRExecutor(ir, model.state_dict())(x)[0], model(x))

    def test_custom_library_op(self):
        lib = torch.library.Library("npu_test_executor", "DEF")
        lib.define("scale(Tensor x, float by) -> Tensor")
        lib.impl("scale", lambda x, by: x * by, "CompositeExplicitAutograd")

        class Scale(nn.Module):
            def forward(self, x):
                return torch.ops.npu_test_executor.scale(x, 2.5)

        ir = extract_ir(Scale().eval(), torch.ones(2))
        assert ir.nodes[0].op_type == "npu_test_executor.scale.default"
        assert ir.nodes[0].attrs == {"by": 2.5}
        assert is_supported_op("npu_test_executor.scale.default")
        assert execute_ir(ir, (torch.ones(2),), {})[0].tolist() == [2.5, 2.5]

    def test_conversion_function(self):
        @register_op("aten.relu.default")
        def convert(info: NodeInfo) -> OpNode:
            return OpNode(info.name, "mylib.relu.default", info.input_metas, info.output_metas, {"note": info.op})

        ir = extract_ir(nn.ReLU().eval(), torch.ones(2))
        assert (ir.nodes[0].op_type, ir.nodes[0].attrs) == ("mylib.relu.default", {"note": "call_function"})

    @pytest.mark.parametrize("result", [None, 3])
    def test_failing_conversion(self, result):
        @register_op("aten.relu.default")
        def convert(info):
            return result

        assert extract_ir(nn.ReLU().eval(), torch.ones(2)).nodes[0].op_type == "aten.relu.default"
        with pytest.raises(Exception, match=r"Failed to convert node 'relu' with op 'aten.relu.default': .*OpNode"):
            extract_ir(nn.ReLU().eval(), torch.ones(2), strict=True)

    def test_bad_pattern(self):
        with pytest.raises(ValueError, match="non-empty string"):
            register_op("")

    def test_convert_node_is_public(self):
        assert callable(convert_node)


# One entry a function, each over a (2, 3, 8, 8) input in [0, 1) unless it makes its own.
FUNCTIONS = {
    "conv_transpose": lambda x: F.conv_transpose2d(x, torch.ones(3, 2, 3, 3), stride=2, output_padding=1),
    "conv1d": lambda x: F.conv1d(x.flatten(2), torch.ones(6, 1, 3), groups=3, dilation=2),
    "max_pool_indices": lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True),
    "avg_pool": lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
    "adaptive": lambda x: (F.adaptive_avg_pool2d(x, (3, 5)), F.adaptive_max_pool2d(x, 3)),
    "interpolate": lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic", align_corners=False),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x.reshape(2, 12, 4, 4), 2),
    "group_norm": lambda x: F.group_norm(x, 3),
    "instance_norm": F.instance_norm,
    "softmax": lambda x: torch.softmax(x, 1) + torch.log_softmax(x, -1),
    "activations": lambda x: F.gelu(x, approximate="tanh") + F.silu(x) + F.mish(x) + F.hardswish(x) + F.elu(x, 0.5),
    "reductions": lambda x: (
        x.sum((1, -1)),
        x.mean(),
        x.var(2, correction=0),
        x.amax((0, 3)),
        x.norm(),
        x.prod(1),
    ),
    "arg": lambda x: (x.argmax(1), x.argmin(), x.max(2), x.median(1), x.kthvalue(2)),
    "sort": lambda x: (x.sort(2, descending=True), x.topk(2, largest=False), x.argsort(1)),
    "scan": lambda x: (x.cumsum(1), x.cumprod(2), x.cummax(3), x.logcumsumexp(1)),
    "gather": lambda x: x.gather(1, (x * 2).long()) + x.take_along_dim((x * 2).long(), 1),
    "scatter": lambda x: torch.zeros(2, 3, 8, 8).scatter_add(1, (x * 2).long(), x),
    "index": lambda x: (x[:, [2, 0]], x[..., ::2], x[0, :, None, 1:3], x[x > 0.5].sum()),
    "where": lambda x: torch.where(x > 0.5, x, 0.0).masked_fill(x < 0.1, -1.0),
    "bits": lambda x: ((x * 9).int() & 3) | ((x * 5).int() << 1),
    "integers": lambda x: (
        (x * 9).long() // 2,
        (x * 9).int() % 4,
        torch.div((x * 9).int(), 2, rounding_mode="floor"),
    ),
    "casts": lambda x: (
        x.half(),
        x.to(torch.bfloat16).float(),
        x.bool(),
        (x * 300).to(torch.uint8),
        x.double(),
    ),
    "matmuls": lambda x: (
        x @ x.mT,
        torch.einsum("bchw,bdhw->bcd", x, x),
        torch.bmm(x[0], x[1]),
        x[0, 0] @ x[0, 0, 0],
    ),
    "shapes": lambda x: (
        x.permute(0, 2, 3, 1).flip(1),
        x.roll(2, 1),
        x.unfold(2, 3, 2),
        x.tile(1, 2, 1, 1),
        x.mT,
    ),
    "splits": lambda x: (*x.chunk(3, 1), *x.split([1, 7], 2), *x.unbind(0), torch.stack([x, x], 1)),
    "factories": lambda x: (
        torch.arange(0, 1, 0.25),
        torch.linspace(0, 1, 5),
        torch.eye(3),
        torch.ones_like(x).tril(),
    ),
    "special": lambda x: (torch.erf(x), torch.lgamma(x + 1), torch.special.i0(x), torch.digamma(x + 1)),
    "complex": lambda x: torch.view_as_real(torch.fft.rfft2(x)),
    "linalg": lambda x: (torch.linalg.inv(x[0, 0] + torch.eye(8)), torch.linalg.qr(x[0, 0])[1].abs()),
    "embedding": lambda x: F.embedding((x[0, 0] * 5).long(), torch.arange(20.0).reshape(5, 4), padding_idx=1),
    "one_hot": lambda x: F.one_hot((x[0, 0] * 4).long(), 5),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3),
    "clamp": lambda x: (x.clamp(0.2, 0.7), x.clamp(max=x.mean()), torch.nan_to_num(x / (x > 0.5))),
    "comparisons": lambda x: (
        x.eq(0.5),
        x.isnan(),
        torch.isclose(x, x + 1e-9),
        (x > 0.1).all(1),
        x.gt(x.mT).any(),
    ),
    "distance": lambda x: (
        torch.cdist(x[0], x[1]),
        F.cosine_similarity(x[0], x[1], 0),
        torch.dist(x[0], x[1]),
    ),
    "empty": lambda x: (x[:0].sum(0), torch.cat([x[:0], x]), x[:, :, :0].reshape(2, -1)),
}


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "channels_last", "offset"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_bit_identical_to_eager(name, layout):
    torch.manual_seed(0)
    x = torch.rand(2, 3, 8, 8)
    if layout == "transposed":
        x = x.transpose(2, 3)
    elif layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "offset":
        x = torch.rand(3, 4, 9, 9)[1:, 1:, 1:, 1:]
    model = Fn(FUNCTIONS[name]).eval()
    if name == "index":
        with pytest.raises(Exception, match=r"Dynamic shape|Data-dependent"):
            extract_ir(Fn(lambda x: x[x > 0.5]).eval(), x)
        model = Fn(lambda x: (x[:, [2, 0]], x[..., ::2], x[0, :, None, 1:3])).eval()
    outputs = execute_ir(extract_ir(model, x), (x,), {})
    want = [t for t in torch.utils._pytree.tree_leaves(model(x)) if isinstance(t, torch.Tensor)]
    assert len(outputs) == len(want)
    for got, expected in zip(outputs, want, strict=True):
        assert got.dtype == expected.dtype and got.shape == expected.shape
        assert got.stride() == expected.stride() or got.numel() == 0
        assert torch.equal(got, expected) or torch.equal(got.isnan(), expected.isnan()), name


def test_saved_and_loaded_program_runs_the_same(net, tmp_path):
    model, ir = net
    save_ir(ir, tmp_path / "ir.json")
    x = torch.randn(1, 4)
    assert torch.equal(IRExecutor(IR.load(tmp_path / "ir.json"), model.state_dict())(x)[0], model(x))
