"""Names, signatures and orders that scripts written for earlier versions rely on."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import subprocess
import sys

import pytest
import torch
import torch_ir
from torch import nn
from torch_ir.analyzer import GraphAnalyzer, NodeInfo, _dtype_to_str
from torch_ir.exporter import export_model, is_meta_module, is_meta_tensor, validate_inputs_meta, validate_meta_device
from torch_ir.ops.aten_ops import get_op_type

NAMES = """
extract_ir verify_ir verify_ir_with_state_dict IR OpNode TensorMeta export_model ExportError
convert_exported_program ConversionError serialize_ir deserialize_ir save_ir load_ir validate_ir SerializationError
IRExecutor execute_ir ExecutionError load_weights load_weights_pt load_weights_safetensors WeightLoadError
VerificationReport register_op register_executor ir_to_mermaid generate_op_distribution_pie __version__ IRConverter
IRSerializer IRVerifier WeightLoader GraphAnalyzer get_model_name list_registered_ops aten_ops aten_impl""".split()

MODULES = """
ir exporter analyzer converter serializer executor weight_loader verifier visualize cli ops ops.registry
ops.aten_ops ops.aten_impl""".split()


@pytest.mark.parametrize("name", NAMES)
def test_name(name):
    assert hasattr(torch_ir, name)
    assert name in torch_ir.__all__ and name in dir(torch_ir)


@pytest.mark.parametrize("module", MODULES)
def test_module(module):
    importlib.import_module(f"torch_ir.{module}")


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        torch_ir.nothing  # noqa: B018


def test_importing_the_package_does_not_import_torch():
    code = "import sys, torch_ir; assert 'torch' not in sys.modules; torch_ir.IR; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def positional(function) -> list[str]:
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD]


def test_signatures():
    assert positional(torch_ir.extract_ir)[:2] == ["model", "example_inputs"]
    assert inspect.signature(torch_ir.extract_ir).parameters["strict"].default is False
    assert inspect.signature(torch_ir.export_model).parameters["strict"].default is True
    assert positional(torch_ir.execute_ir) == ["ir", "inputs", "weights", "weights_path", "constants"]
    tail = ["original_model", "test_inputs", "rtol", "atol", "constants"]
    assert positional(torch_ir.verify_ir) == ["ir", "weights_path", *tail]
    assert positional(torch_ir.verify_ir_with_state_dict) == ["ir", "state_dict", *tail]


def test_dataclass_fields():
    def fields(cls):
        return [f.name for f in dataclasses.fields(cls)]

    assert fields(torch_ir.TensorMeta) == ["name", "shape", "dtype", "producer_node", "producer_output_idx"]
    assert fields(torch_ir.OpNode)[:5] == ["name", "op_type", "inputs", "outputs", "attrs"]
    assert fields(torch_ir.IR)[:8] == [
        "nodes", "graph_inputs", "graph_outputs", "weights", "weight_name_mapping", "constants", "model_name",
        "pytorch_version",
    ]  # fmt: skip
    assert fields(NodeInfo)[:8] == ["name", "op", "target", "args", "kwargs", "input_metas", "output_metas", "attrs"]
    assert fields(torch_ir.VerificationReport)[:6] == [
        "is_valid", "max_diff", "mean_diff", "num_outputs", "output_details", "error_message",
    ]  # fmt: skip


def test_repr():
    ir = torch_ir.IR([], [], [], [], model_name="M")
    assert repr(ir) == "IR(model_name='M', nodes=0, inputs=0, outputs=0, weights=0)"


def test_producer_keys_only_where_there_is_one():
    meta = torch_ir.TensorMeta("x", (1, 2), "float32")
    assert meta.to_dict() == {"name": "x", "shape": [1, 2], "dtype": "float32"}
    assert torch_ir.TensorMeta.from_dict(meta.to_dict()) == meta
    made = torch_ir.TensorMeta("x", (), "bool", "topk", 1)
    assert made.to_dict()["producer_output_idx"] == 1
    assert torch_ir.TensorMeta.from_dict(made.to_dict()) == made


def test_analyzer():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
        x = torch.zeros(2, 4)
    analyzer = GraphAnalyzer(export_model(model, (x,)))
    assert [t.name for t in analyzer.get_graph_inputs()] == ["input"]
    assert [w.name for w in analyzer.get_weights()][:2] == ["0.weight", "0.bias"]
    mapping = analyzer.get_weight_name_mapping()
    assert {p[:2] for p, fqn in mapping.items() if fqn.endswith(("weight", "bias"))} == {"p_"}
    assert {p[:2] for p, fqn in mapping.items() if "running" in fqn} == {"b_"}
    nodes = analyzer.get_call_function_nodes()
    assert [get_op_type(n.target) for n in nodes] == ["aten.linear.default", "aten.batch_norm.default"]
    assert all(n.op == "call_function" and n.args for n in nodes)
    assert analyzer.get_node_output_meta("linear")[0].shape == (2, 3)
    assert analyzer.get_node_output_meta("ghost") == []
    fx_node = next(n for n in analyzer.graph.nodes if n.name == "linear")
    assert analyzer.get_node_input_meta(fx_node)[0].producer_node == "input"
    assert analyzer.get_graph_outputs()[0].name == "batch_norm"


def test_small_helpers(tmp_path):
    assert _dtype_to_str(torch.bfloat16) == "bfloat16"
    assert get_op_type(torch.ops.aten.add.Tensor) == "aten.add.Tensor"
    assert is_meta_tensor(torch.zeros(1, device="meta")) and not is_meta_tensor(torch.zeros(1))
    assert not is_meta_module(nn.Linear(1, 1)) and is_meta_module(nn.Linear(1, 1, device="meta"))
    with pytest.raises(torch_ir.ExportError, match="Model must be on meta device"):
        validate_meta_device(nn.Linear(1, 1))
    with pytest.raises(torch_ir.ExportError, match="Input tensor at index 1 must be on meta device"):
        validate_inputs_meta((torch.zeros(1, device="meta"), torch.zeros(1)))


def test_executor_registry_has_both_names():
    model = nn.Linear(2, 2).eval()
    executor = torch_ir.IRExecutor(torch_ir.extract_ir(model, torch.zeros(1, 2)), model.state_dict())
    assert executor.registry["weight"] is executor.registry["p_weight"]
    assert torch.equal(executor.registry["weight"], model.weight)
    assert "IRExecutor(IR(model_name='Linear'" in repr(executor)
