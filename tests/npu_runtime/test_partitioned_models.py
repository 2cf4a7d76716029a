"""Models that run partly on the device and partly on the host."""

import copy

import ml_dtypes
import npu_compiler
import numpy as np
import pytest
import torch
from npu_runtime import (
    Backend,
    CPUBackend,
    DAGExecutor,
    InvalidValueError,
    MissingWeightError,
    NPUBuffer,
    execute_cpu_partition,
    load_weights,
)
from npu_runtime.host import numpy_to_torch, torch_to_numpy
from torch import nn
from torch_ir import extract_ir

from tests.support.devices import backend_of


class Mixed(nn.Module):
    """Two parts for the device with a solve, which only the host has, between and after them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 4)
        self.register_buffer("matrix", torch.eye(4) * 2 + torch.rand(4, 4) * 0.1)

    def forward(self, x, skip):
        h = torch.relu(self.first(x))
        solved = torch.linalg.solve(self.matrix, h.transpose(-1, -2)).transpose(-1, -2)
        return self.second(solved) + skip, h


X = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
SKIP = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))


def arrays(model):
    return {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}


def executor_for(model, *example, supported=None):
    ir = extract_ir(model, example).to_dict()
    plan = npu_compiler.partition(ir, supported) if supported else npu_compiler.partition(ir)
    names = [t["name"] for t in ir["graph_inputs"]], [t["name"] for t in ir["graph_outputs"]]
    return DAGExecutor(plan, CPUBackend()), *names


def check(outputs, names, model, *inputs):
    wanted = copy.deepcopy(model).double()(*(x.double() if x.is_floating_point() else x for x in inputs))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    assert list(outputs) == names
    for name, value in zip(names, wanted, strict=True):
        np.testing.assert_allclose(outputs[name], value.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_what_only_the_host_has_runs_there():
    model = Mixed().eval()
    dag, inputs, outputs = executor_for(model, X, SKIP)
    targets = [step.target for step in dag.plan.steps if isinstance(step, npu_compiler.Partition)]
    assert targets == ["npu", "cpu", "npu"]
    assert isinstance(dag.backend, Backend)
    assert set(dag.npu_programs) == {0, 2}
    check(
        dag.execute(dict(zip(inputs, (X.numpy(), SKIP.numpy()), strict=True)), arrays(model)), outputs, model, X, SKIP
    )
    # Programs take only what they read: the first one not `skip`.
    assert [s.name for s in dag.npu_programs[0].input_specs] == [inputs[0]]


FORMS = {
    "NumPy": lambda x, _: x.numpy(),
    "torch": lambda x, _: x,
    "buffer": lambda x, backend: NPUBuffer.from_numpy(x, backend.device),
    "strided": lambda x, _: np.asfortranarray(x.numpy()),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("refused", ["aten.relu.default", "aten.linear.default", "aten.add.Tensor"])
def test_any_node_may_be_the_hosts(form, refused):
    model = Mixed().eval()

    def supported(op, attrs):
        return op != refused and npu_compiler.is_op_supported(op, attrs)

    dag, inputs, outputs = executor_for(model, X, SKIP, supported=supported)
    dag.load_weights(arrays(model))
    given = {n: form(x, dag.backend) for n, x in zip(inputs, (X, SKIP), strict=True)}
    for _ in range(2):
        check(dag.execute(given), outputs, model, X, SKIP)


def test_all_on_one_side():
    model = Mixed().eval()
    dag, inputs, outputs = executor_for(model, X, SKIP, supported=lambda op, attrs: False)
    assert dag.npu_programs == {}
    check(dag.execute(dict(zip(inputs, (X, SKIP), strict=True)), arrays(model)), outputs, model, X, SKIP)
    plain = nn.Linear(6, 2).eval()
    dag, inputs, outputs = executor_for(plain, X)
    assert set(dag.npu_programs) == {0}
    check(dag.execute({inputs[0]: X}, arrays(plain)), outputs, plain, X)


def test_new_weights_replace_the_old_on_both_sides():
    model, other = Mixed().eval(), Mixed().eval()
    with torch.no_grad():
        for tensor in (*other.parameters(), other.matrix):
            tensor.mul_(1.5)
    dag, inputs, outputs = executor_for(model, X, SKIP)
    given = dict(zip(inputs, (X, SKIP), strict=True))
    check(dag.execute(given, arrays(model)), outputs, model, X, SKIP)
    check(dag.execute(given, arrays(other)), outputs, other, X, SKIP)
    check(dag.execute(given), outputs, other, X, SKIP)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.bool])
def test_every_dtype_crosses_unchanged(dtype):
    class Through(nn.Module):
        def forward(self, x):
            return x.flip(0).repeat(2).roll(1)

    x = torch.tensor([0, 1, 70000 if dtype in (torch.int64, torch.int32) else 1, 3]).to(dtype)
    ir = extract_ir(Through(), x).to_dict()
    plan = npu_compiler.partition(ir, lambda op, attrs: "repeat" not in op)
    outputs = DAGExecutor(plan, CPUBackend()).execute({ir["graph_inputs"][0]["name"]: x}, {})
    got = outputs[ir["graph_outputs"][0]["name"]]
    assert torch.equal(numpy_to_torch(got), Through()(x))


class Written(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.full((3,), 5.0))

    def forward(self, x):
        self.seen.mul_(0.5).add_(x)
        return torch.sin(self.seen) * 2, self.seen


REFUSED = [("sin",), ("mul", "add"), ("add",), ("sin", "mul", "add"), ()]


def refusing(names):
    return lambda op, attrs: not any(name in op for name in names)


@pytest.mark.parametrize("refused", REFUSED, ids="+".join)
def test_what_the_model_writes_is_kept(refused):
    model, x = Written(), torch.tensor([1.0, 2, 3])
    dag, (name,), outputs = executor_for(copy.deepcopy(model), x, supported=refusing(refused))
    assert ("npu" in {part.target for part in dag.plan.steps if hasattr(part, "target")}) == (len(refused) < 3)
    dag.load_weights({"seen": model.seen})
    for _ in range(2):
        reference, kept = copy.deepcopy(model), []
        for i in range(4):
            got, wanted = dag.execute({name: x * i}), reference(x * i)
            for key, value in zip(outputs, wanted, strict=True):
                np.testing.assert_allclose(got[key], value.numpy(), rtol=1e-5, atol=1e-6)
            kept.append((got[outputs[1]], wanted[1].clone()))
            got[outputs[0]][:] = 99  # what was returned is the caller's
        for got, wanted in kept:
            np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-5)
        dag.reset()
    assert model.seen.tolist() == [5, 5, 5]


class Returned(nn.Module):
    """Outputs that no node computes."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.arange(3.0))

    def forward(self, x):
        return self.w, x, torch.sin(x) + torch.tensor([1.0, 2, 3])


@pytest.mark.parametrize("refused", [("sin",), ("add",), ()], ids="+".join)
def test_weights_inputs_and_constants(refused):
    model, x = Returned(), torch.ones(3)
    dag, (name,), outputs = executor_for(model, x, supported=refusing(refused))
    with pytest.raises(InvalidValueError, match="not loaded"):
        dag.execute({name: x})
    check(dag.execute({name: x}, arrays(model)), outputs, model, x)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.embed(tokens)))


NAMES = {
    "own": lambda w: {"embed.weight": w, "head.weight": w},
    "the one": lambda w: {"embed.weight": w},
    "the tied one": lambda w: {"head.weight": w},
    "prefixed": lambda w: {"model.embed.weight": w},
    "weights": lambda w: load_weights({"embed.weight": w}),
}


@pytest.mark.parametrize("refused", ["tanh", "embedding", "linear"])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
def test_names_of_weights(names, refused):
    model, tokens = Tied().eval(), torch.tensor([[1, 2], [3, 6]])
    dag, (name,), outputs = executor_for(model, tokens, supported=refusing([refused]))
    check(dag.execute({name: tokens}, names(model.embed.weight.detach())), outputs, model, tokens)
    with pytest.raises(MissingWeightError, match=r'"(embed|head)\.weight" not found in state dict; got 1 tensors'):
        dag.load_weights({"other": tokens})


def test_names_that_do_not_matter_and_further_names():
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh()).eval()
    ir = extract_ir(model, X, output_names=["logits"]).to_dict()
    dag = DAGExecutor(npu_compiler.partition(ir, refusing(["tanh"])), CPUBackend())
    outputs = dag.execute({"any name": X}, arrays(model))
    np.testing.assert_allclose(outputs["logits"], model(X).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert list(outputs) == [ir["graph_outputs"][0]["name"]]
    ir = extract_ir(Returned(), torch.ones(3), output_names=["weight", "same", "sum"]).to_dict()
    outputs = DAGExecutor(npu_compiler.partition(ir, refusing(["sin"])), CPUBackend()).execute(
        {"x": torch.ones(3)}, {"w": torch.arange(3.0)}
    )
    np.testing.assert_array_equal(outputs["weight"], [0, 1, 2])
    assert outputs["sum"].shape == (3,)
    with pytest.raises(KeyError, match="there is no output 'other'"):
        outputs["other"]


def test_parts_that_alternate():
    torch.manual_seed(0)
    model = nn.Sequential(*(layer for _ in range(5) for layer in (nn.Linear(6, 6), nn.Tanh()))).eval()
    dag, (name,), outputs = executor_for(model, X, supported=refusing(["tanh"]))
    steps = [type(step).__name__ for step in dag.plan.steps]
    assert (steps.count("Partition"), steps.count("TransferOp")) == (10, 9)
    check(dag.execute({name: X}, arrays(model)), outputs, model, X)
    check(dag.execute({name: X}), outputs, model, X)


def test_mistakes_are_named():
    model = Mixed().eval()
    dag, (x, skip), _ = executor_for(model, X, SKIP)
    with pytest.raises(InvalidValueError, match="weights are not loaded"):
        dag.execute({x: X, skip: SKIP})
    with pytest.raises(InvalidValueError, match=r"second\.weight|first\.weight|matrix"):
        dag.load_weights({})
    for wrong in (None, [1.0], "model.safetensors"):
        with pytest.raises(InvalidValueError, match="expected a dict"):
            dag.load_weights(wrong)
    dag.load_weights(arrays(model))
    for inputs, word in (
        ({x: X}, skip),
        ({x: X, skip: SKIP, "other": X}, "other"),
        ({x: X[:2], skip: SKIP}, r"\[2, 6\]"),
        ({x: X.double(), skip: SKIP}, "float64"),
        ({x: [1.0], skip: SKIP}, x),
        ({x: np.ma.masked_less(X.numpy(), 0), skip: SKIP}, "has masked elements"),
        ({x: X, skip: SKIP, "b_matrix": X}, "unknown .'b_matrix'."),
        (None, "dict"),
    ):
        with pytest.raises(InvalidValueError, match=word):
            dag.execute(inputs)


def test_wrong_types_are_named():
    ir = extract_ir(Mixed().eval(), (X, SKIP)).to_dict()
    plan, backend = npu_compiler.partition(ir), CPUBackend()
    for arguments, words in (
        ((ir, backend), "plan has the wrong type; got dict; expected a PartitionPlan"),
        ((None, backend), "plan has the wrong type; got NoneType"),
        ((plan, backend.device), "backend has the wrong type; got Device; expected a Backend, such as CPUBackend"),
        ((plan, CPUBackend), "backend has the wrong type; got ABCMeta"),
        ((plan, backend, "compile"), "compile_fn must be callable; got str"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            DAGExecutor(*arguments)
    with pytest.raises(TypeError, match="is_supported_fn must be callable; got str"):
        npu_compiler.partition(ir, "aten.relu.default")
    with pytest.raises(TypeError, match="expected a plan and one of its parts; got dict and int"):
        npu_compiler.partition_ir(ir, 0)
    for given in (5, [X, SKIP], X):
        with pytest.raises(InvalidValueError, match="inputs must be a mapping"):
            DAGExecutor(plan, backend).execute(given, arrays(Mixed()))
    with pytest.raises(InvalidValueError, match=r"weights must be a mapping; got Mixed; .*; try model\.state_dict\(\)"):
        DAGExecutor(plan, backend).load_weights(Mixed())


@pytest.mark.parametrize("refused", [["linear"], ["relu"]])
@pytest.mark.parametrize("bad", [torch.zeros(3, 3), torch.zeros(4, 6).double(), [[0.0]], None])
def test_weights_that_do_not_fit(refused, bad):
    """On both sides, and nothing of them is taken."""
    model = Mixed().eval()
    dag, inputs, outputs = executor_for(model, X, SKIP, supported=refusing([*refused, "linalg"]))
    given = dict(zip(inputs, (X, SKIP), strict=True))
    dag.load_weights(arrays(model))
    with pytest.raises(InvalidValueError, match=r"first\.weight"):
        dag.load_weights({**{name: 2 * value for name, value in arrays(model).items()}, "first.weight": bad})
    check(dag.execute(given), outputs, model, X, SKIP)


def test_what_is_returned_is_the_callers():
    """Weights, inputs and views of them are copied before they leave."""

    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.arange(6.0).reshape(2, 3))

        def forward(self, x):
            return self.w, self.w.mT, x, x.mT, torch.sin(x)

    model, x = Views().eval(), torch.ones(2, 3)
    for refused in (["mT"], ["mT", "sin"], []):
        dag, (name,), outputs = executor_for(model, x, supported=refusing(refused))
        dag.load_weights(arrays(model))
        given = x.clone()
        first = dag.execute({name: given})
        check(first, outputs, model, x)
        for value in first.values():
            value[:] = 99
        assert torch.equal(given, x)
        check(dag.execute({name: given}), outputs, model, x)


@pytest.mark.parametrize("refused", ["one_hot", "nothing"])
@pytest.mark.parametrize("kind", ["chosen", "metal"])
@pytest.mark.parametrize("index", [-1, 5, 2**40])
def test_one_hot_of_an_index_out_of_range(index, kind, refused):
    class OneHot(nn.Module):
        def forward(self, x):
            return nn.functional.one_hot(x, 5) * 2

    x = torch.tensor([[0, 4, 2], [3, 1, 1]])
    ir = extract_ir(OneHot(), x).to_dict()
    dag = DAGExecutor(npu_compiler.partition(ir, refusing([refused])), backend_of(kind))
    np.testing.assert_array_equal(dag.execute({"x": x})["output"], OneHot()(x))
    x[1, 0] = index
    with pytest.raises(InvalidValueError, match="out of (range|bounds)|one_hot"):
        dag.execute({"x": x})


def test_one_partition_by_hand():
    model = Mixed().eval()
    ir = extract_ir(model, (X, SKIP)).to_dict()
    pool = {t["name"]: value.numpy() for t, value in zip(ir["graph_inputs"], (X, SKIP), strict=True)}
    found = execute_cpu_partition(ir["nodes"], pool, arrays(model), ir["weight_name_mapping"])
    assert set(found) == {t["name"] for node in ir["nodes"] for t in node["outputs"]}
    wanted = model(X, SKIP)[0].detach().numpy()
    np.testing.assert_allclose(found[ir["graph_outputs"][0]["name"]], wanted, rtol=1e-4, atol=1e-5)


def test_bfloat16_round_trip_and_uint16_stays():
    array = np.array([1.5, -2, 3], ml_dtypes.bfloat16)
    tensor = numpy_to_torch(array)
    assert tensor.dtype == torch.bfloat16
    np.testing.assert_array_equal(torch_to_numpy(tensor), array)
    assert numpy_to_torch(np.array([1, 2], np.uint16)).dtype == torch.uint16


def test_weights_are_replaced_whole_or_not_at_all():
    model = Mixed().eval()
    dag = DAGExecutor(npu_compiler.partition(extract_ir(model, (X, torch.zeros(3, 4))).to_dict()), CPUBackend())
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    dag.load_weights(state)
    inputs = dict(zip(("x", "skip"), (X.numpy(), np.zeros((3, 4), np.float32)), strict=True))
    before = dag.execute(inputs)
    other = {name: tensor * 10 for name, tensor in state.items()}
    with pytest.raises(InvalidValueError, match=r"second\.weight"):
        dag.load_weights({**other, "second.weight": torch.zeros(5, 5)})
    for tensor in state.values():
        tensor.mul_(3)  # what was loaded is a copy
    for name, value in dag.execute(inputs).items():
        np.testing.assert_array_equal(value, before[name])
