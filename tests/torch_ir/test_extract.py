"""Extraction: every form of input and output, and the model left as it was."""

from __future__ import annotations

import copy
import dataclasses
import enum
import re
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch_ir import (
    ConversionError,
    ExportError,
    IRExecutor,
    convert_exported_program,
    export_model,
    extract_ir,
    get_model_name,
    validate_ir,
    verify_ir_with_state_dict,
)
from torch_ir.errors import InvalidExampleError

from tests.torch_ir.proof import Fn


@dataclasses.dataclass
class Pair:
    first: torch.Tensor
    second: torch.Tensor | None = None


class Point(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


class Nested(nn.Module):
    """Takes a dict of lists and a dataclass; returns a dict with a dataclass, constants and None."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, batch, pair: Pair, *, scale: float = 1.0, mode: str = "a"):
        h = self.fc(batch["xs"][0]) + batch["xs"][1]
        h = h * scale if mode == "a" else h / scale
        return {"h": h, "pair": Pair(pair.first + 1, h), "n": 3, "none": None, "point": Point(h, pair.second)}


def nested_inputs(device: str = "cpu"):
    def make(*shape):
        return torch.randn(*shape, device=device)

    return ({"xs": [make(2, 4), make(2, 4)]}, Pair(make(3), make(1))), {"scale": 2.0, "mode": "b"}


def meta(factory):
    with torch.device("meta"):
        return factory().eval()


def test_structures_name_the_classes_of_named_tuples():
    args, kwargs = nested_inputs()
    ir = extract_ir(Nested().eval(), args, kwargs)
    structure = dict(zip(ir.output_structure["keys"], ir.output_structure["items"], strict=True))["point"]
    assert structure["type"] == f"{Point.__module__}.Point" and structure["keys"] == list(Point._fields)


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("form", ["tensor", "tuple", "list", "dict"])
def test_input_forms(device, form):
    model = meta(Linear) if device == "meta" else Linear().eval()
    x = torch.randn(2, 4, device=device)
    given = {"tensor": x, "tuple": (x,), "list": [x], "dict": {"x": x}}[form]
    ir = extract_ir(model, given)
    validate_ir(ir)
    assert [(t.name, t.shape, t.dtype) for t in ir.graph_inputs] == [("x", (2, 4), "float32")]
    assert [n.op_type for n in ir.nodes] == ["aten.linear.default"]
    real = Linear().eval()
    ok, report = verify_ir_with_state_dict(ir, real.state_dict(), real, {"x": torch.randn(2, 4)})
    assert ok, report


@pytest.mark.parametrize("model_device", ["meta", "cpu"])
@pytest.mark.parametrize("input_device", ["meta", "cpu"])
def test_devices_may_be_mixed(model_device, input_device):
    with torch.device(model_device):
        model = Linear().eval()
    ir = extract_ir(model, torch.randn(2, 4, device=input_device))
    assert ir.graph_outputs[0].shape == (2, 3)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_nested_inputs_and_outputs(device):
    with torch.device(device):
        model = Nested().eval()
    args, kwargs = nested_inputs(device)
    ir = extract_ir(model, args, kwargs)
    validate_ir(ir)
    assert ir.output_names == ["h", "pair.first", "pair.second", "point.x", "point.y"]
    assert len(ir.graph_inputs) == 4

    real = Nested().eval()
    args, kwargs = nested_inputs()
    executor = IRExecutor(ir, real.state_dict())
    want = real(*args, **kwargs)
    out = executor(*args, **kwargs)
    nested = executor.rebuild_output(out)
    assert torch.equal(nested["h"], want["h"])
    assert torch.equal(nested["pair"]["first"], want["pair"].first)
    assert nested["n"] == 3 and nested["none"] is None
    assert torch.equal(nested["point"]["y"], want["point"].y)
    ok, report = verify_ir_with_state_dict(ir, real.state_dict(), real, args, test_kwargs=kwargs)
    assert ok and report.num_outputs == 5, report


def test_ordered_dict_and_no_output_names_for_plain_tuples():
    class Two(nn.Module):
        def forward(self, d):
            return d["b"] + 1, [d["a"] * 2]

    ir = extract_ir(Two().eval(), (OrderedDict(b=torch.zeros(2), a=torch.zeros(3)),))
    assert ir.output_names == []
    assert [t.shape for t in ir.graph_outputs] == [(2,), (3,)]


def test_model_and_inputs_are_unchanged():
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("n", torch.zeros(3))
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            self.n.add_(1)
            x.mul_(2)
            return self.fc(x) + self.n

    model, x = Writes().eval(), torch.randn(2, 3)
    state, given = copy.deepcopy(model.state_dict()), x.clone()
    hooks = len(model._forward_hooks)
    extract_ir(model, x)
    assert torch.equal(x, given)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert len(model._forward_hooks) == hooks
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_model_that_cannot_be_copied_is_still_extracted():
    class Locked(Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("not copyable")

    model = Locked().eval()
    ir = extract_ir(model, torch.randn(2, 4))
    assert [n.op_type for n in ir.nodes] == ["aten.linear.default"]


def test_names():
    assert get_model_name(Linear()) == "Linear"
    assert extract_ir(Linear().eval(), torch.zeros(1, 4)).model_name == "Linear"
    ir = extract_ir(Linear().eval(), torch.zeros(1, 4), model_name="mine", input_names=["image"], output_names=["y"])
    assert ir.model_name == "mine"
    assert ir.graph_inputs[0].name == "image"
    assert ir.nodes[0].inputs[0].name == ir.nodes[0].inputs[0].producer_node == "image"
    assert ir.output_names == ["y"]
    validate_ir(ir)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_names": ["a", "b"]}, "got 2 names, the model has 1 input"),
        ({"output_names": []}, "got 0 names, the model has 1 output"),
        ({"input_names": ["linear"]}, "already the name of a node"),
        ({"input_names": "x"}, "expected a list of non-empty strings"),
        ({"output_names": [""]}, "expected a list of non-empty strings"),
        ({"output_names": ["\ud800"]}, "output_names: .* has half of a surrogate pair"),
        ({"model_name": "a\ud800"}, "model_name: .* has half of a surrogate pair"),
    ],
)
def test_bad_names(options, message):
    with pytest.raises(ConversionError, match=message):
        extract_ir(Linear().eval(), torch.zeros(1, 4), **options)


def test_a_bool_is_no_size():
    with pytest.raises(ExportError, match=r"dynamic_shapes has a bool for a size; expected torch\.export\.Dim"):
        extract_ir(Linear().eval(), torch.zeros(1, 4), dynamic_shapes={"x": {0: True}})


def test_every_node_says_where_it_came_from():
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

        def forward(self, x):
            return self.block(self.block(x)) + 1

    ir = extract_ir(Outer().eval(), torch.zeros(1, 4))
    paths = [n.module_path for n in ir.nodes]
    assert paths[:2] == ["block.0", "block.1"]
    assert paths[2] == "block.0@1"
    assert paths[-1] == ""
    assert all(n.source and n.source.split(":")[0].endswith("test_extract.py") for n in ir.nodes), [
        n.source for n in ir.nodes
    ]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Dropout(0.5), "dropout with p=0.5 is active"),
        (nn.BatchNorm1d(4), "batch norm updates"),
        (nn.LSTM(4, 4, num_layers=2, dropout=0.3), "dropout with p=0.3"),
        (nn.RReLU(), "random"),
    ],
)
def test_training_graphs_are_refused(layer, reason):
    with pytest.raises(ConversionError, match=f"(?s)model.eval\\(\\).*{reason}"):
        extract_ir(nn.Sequential(layer).train(), torch.zeros(2, 4))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(4, 4),
        nn.Dropout(0.0),
        nn.BatchNorm1d(4, track_running_stats=False),
        nn.InstanceNorm1d(2),
        nn.Identity(),
    ],
)
def test_training_mode_is_fine_where_nothing_trains(layer):
    extract_ir(nn.Sequential(layer).train(), torch.zeros(2, 2, 4) if "Instance" in str(layer) else torch.zeros(2, 4))


def test_export_model_strict_wants_meta():
    with pytest.raises(ExportError, match="must be on meta device"):
        export_model(Linear().eval(), (torch.zeros(1, 4),))
    with pytest.raises(ExportError, match=r"Input tensor at index 0 must be on meta device"):
        export_model(meta(Linear), (torch.zeros(1, 4),))
    exported = export_model(meta(Linear), (torch.zeros(1, 4, device="meta"),))
    assert convert_exported_program(exported, model_name="n").model_name == "n"


def test_bad_models_and_inputs():
    with pytest.raises(ExportError, match=r"Expected a torch\.nn\.Module, got function"):
        extract_ir(lambda x: x, torch.zeros(1))
    with pytest.raises(ExportError, match=r"forward.*has no 'y'"):
        extract_ir(Linear().eval(), {"y": torch.zeros(1, 4)})
    with pytest.raises(ExportError, match="Failed to export model"):
        extract_ir(Linear().eval(), torch.zeros(1, 5))
    with pytest.raises(ExportError, match="do not fit Linear.forward.*: too many positional arguments"):
        extract_ir(Linear().eval(), (torch.zeros(1, 4), torch.zeros(1)))


def _missing(x):
    return {"own": x}["mine"]


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (
            lambda self, x: _missing(x),
            r"KeyError: 'mine' \(at File \".*extract.py\", line \d+, in _missing, return .*\)$",
        ),
        (
            lambda self, x: self.head(x),
            r"RuntimeError: .* \(at File \".*extract.py\", line \d+, in <lambda>, .*self.head",
        ),
        (lambda self, x: x.foo, r"AttributeError: .*'foo' \(at File \".*extract.py\""),
    ],
    ids=["helper", "layer", "attribute"],
)
def test_an_error_of_the_models_code_says_where(forward, words):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

    Model.forward = forward
    with pytest.raises(ExportError) as error:
        extract_ir(Model(), torch.zeros(1, 4))
    assert re.search(words, " ".join(str(error.value).split()))


@pytest.mark.parametrize("attribute", ["dtype", "device"])
def test_results_that_are_no_values_are_refused(attribute):
    class Returns(nn.Module):
        def forward(self, x):
            return x, getattr(x, attribute)

    with pytest.raises(ExportError, match=rf"the model returns an instance of torch\.{attribute}; expected tensors"):
        extract_ir(Returns(), torch.zeros(1))


def test_a_script_module_is_refused():
    with pytest.raises(ExportError, match="ScriptModule has no Python code"):
        extract_ir(torch.jit.script(nn.Linear(2, 2)), torch.zeros(1, 2))


class TestDynamic:
    def test_input_dimension(self):
        batch = torch.export.Dim("batch", min=2, max=8)
        exported = torch.export.export(Linear().eval(), (torch.zeros(3, 4),), dynamic_shapes={"x": {0: batch}})
        with pytest.raises(
            ConversionError,
            match=r"Dynamic shape detected in node 'x'.*dimension 0 is .*dimension 0 of input 'x'.*static shapes",
        ):
            convert_exported_program(exported)

    def test_data_dependent_dimension(self):
        class Nonzero(nn.Module):
            def forward(self, x):
                return x.nonzero() * 2

        with pytest.raises(ConversionError, match=r"Dynamic shape.*node 'nonzero'.*test_extract\.py:\d+"):
            extract_ir(Nonzero().eval(), torch.ones(4))

    def test_data_dependent_value(self):
        class Item(nn.Module):
            def forward(self, x):
                return x * x.sum().item()

        with pytest.raises(ConversionError, match=r"Data-dependent value in node 'item'.*test_extract\.py:\d+"):
            extract_ir(Item().eval(), torch.ones(4))

    def test_branching_on_data(self):
        class Branches(nn.Module):
            def forward(self, x):
                return x * 2 if x.sum() > 0 else x

        with pytest.raises(ExportError, match=r"decides by a tensor's contents; use torch\.where or torch\.cond"):
            extract_ir(Branches().eval(), torch.ones(4))


def test_extraction_in_several_threads():
    models = [nn.Sequential(nn.Linear(4, 4 + i), nn.ReLU(), nn.Linear(4 + i, 2)).eval() for i in range(6)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda model: extract_ir(model, torch.ones(1, 4)), models))
    for model, ir in zip(models, found, strict=True):
        assert verify_ir_with_state_dict(ir, model.state_dict(), model, (torch.randn(1, 4),))[0]


def test_a_list_among_results_is_refused():
    class Histogram(nn.Module):
        def forward(self, x):
            return torch.histogramdd(x, [3, 3])[0]

    with pytest.raises(ConversionError, match="'histogramdd'.*extract.py.*a list among its results"):
        extract_ir(Histogram(), torch.rand(10, 2))


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_that_writes_its_statistics(training):
    """As an operator, whatever the module's mode is."""

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))
            self.register_buffer("var", torch.ones(3))

        def forward(self, x):
            return torch.ops.aten._native_batch_norm_legit(x, None, None, self.mean, self.var, training, 0.1, 1e-5)

    x, model = torch.randn(2, 3, 4), Norm().eval()
    executor = IRExecutor(extract_ir(Norm().eval(), x), Norm().state_dict())
    for _ in range(2):
        for ours, own in zip(executor(x), model(x), strict=True):
            torch.testing.assert_close(ours, own)
    torch.testing.assert_close(executor.state["mean"], model.mean)


@pytest.mark.parametrize(
    ("example", "kwargs", "words"),
    [
        ((), {}, "missing a required argument: 'input'$"),
        (None, {}, "missing a required argument: 'input'$"),
        ((torch.ones(2), torch.ones(2)), {}, "too many positional arguments$"),
        ((torch.ones(2),), {"input": torch.ones(2)}, "multiple values for argument 'input'$"),
    ],
)
def test_example_inputs_that_forward_does_not_take(example, kwargs, words):
    with pytest.raises(InvalidExampleError, match=rf"do not fit ReLU\.forward\(input: .*\).*: {words}"):
        extract_ir(nn.ReLU(), example, kwargs)


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (torch.eye(2).to_sparse(), r"contain a torch\.sparse_coo tensor; expected dense ones: x\.to_dense\(\)"),
        (torch.nested.nested_tensor([torch.ones(2, 8), torch.ones(3, 8)]), "a nested tensor; .*to_padded_tensor"),
        (
            torch.nested.nested_tensor([torch.ones(2, 8), torch.ones(3, 8)], layout=torch.jagged),
            "a nested tensor; .*to_padded_tensor",
        ),
        (torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8), r"a quantized tensor; .*x\.dequantize\(\)"),
    ],
)
def test_example_inputs_that_are_not_dense(example, words):
    with pytest.raises(InvalidExampleError, match=words):
        extract_ir(nn.ReLU(), example)


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    ("fn", "error", "why"),
    [
        (lambda x: x.to_sparse(), ConversionError, r"returns 'to_sparse', a torch.sparse_coo tensor.*\.to_dense\(\)"),
        (lambda x: (x + 1, Colour.RED), ExportError, "the model returns an instance of Colour; expected tensors"),
        (lambda x: (x + 1, Level.LOW), ExportError, "the model returns an instance of Level; expected tensors"),
        (lambda x: (x + 1, float("nan")), ExportError, r"returns the number nan.*torch\.tensor\(float\('nan'\)\)"),
        (lambda x: copy.copy(x * 2) + 1, ExportError, r"use x\.clone\(\) \(.*, at File .*test_extract\.py"),
        (
            lambda x: torch.from_numpy((x * 2).numpy()),
            ExportError,
            r"takes a tensor to NumPy.*, at File .*test_extract",
        ),
        (torch.vmap(lambda row: row.sum()), ConversionError, "is part of torch.vmap or of a transform"),
        (torch.func.grad(lambda y: (y * y).sum()), ConversionError, "is part of torch.vmap or of a tr"),
        (lambda x: x + 5j.meta, ExportError, r"no attribute 'meta' \(at File .*test_extract\.py"),
        (lambda x: torch.autograd.grad(x.sum(), x), ExportError, r"does not require grad.*test_extract\.py"),
    ],
    ids=[
        "sparse",
        "enum",
        "enum of integers",
        "nan",
        "copy",
        "numpy",
        "vmap",
        "func.grad",
        "no attribute",
        "autograd.grad",
    ],
)
def test_results_and_transforms_that_no_graph_holds(fn, error, why):
    with pytest.raises(error, match=why):
        extract_ir(Fn(fn), torch.ones(2, 4))


def test_code_is_told_that_gradients_are_off():
    class Asking(Linear):
        def forward(self, x):
            with torch.no_grad():
                y = self.fc(x)
            with torch.enable_grad():
                z = y * (3 if torch.is_grad_enabled() else 2)
            return z + (3 if torch.is_grad_enabled() else 2)

    model, x = Asking().eval(), torch.randn(2, 4)
    for mode in (torch.no_grad, torch.enable_grad):
        with mode():
            ir = extract_ir(model, x)
        (result,) = IRExecutor(ir, model.state_dict())(x)
        with torch.no_grad():
            assert torch.equal(result, model(x))
