"""validate_ir finds every fault and reports all of them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch_ir import IR, SerializationError, extract_ir, validate_ir
from torch_ir.ir import Mutation, TensorMeta


@pytest.fixture(scope="module")
def good() -> IR:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            values, _ = torch.topk(self.fc(x), 2)
            return values + 1

    return extract_ir(Net().eval(), torch.randn(2, 4))


def faults(ir: IR) -> str:
    with pytest.raises(SerializationError) as e:
        validate_ir(ir)
    return str(e.value)


def test_good(good):
    assert validate_ir(good) is True


FAULTS = {
    "producer": (lambda ir: setattr(ir.nodes[1].inputs[0], "producer_node", "ghost"), "unknown producer 'ghost'"),
    "wrong order": (lambda ir: ir.nodes.reverse(), "is read before node"),
    "duplicate node": (lambda ir: ir.nodes.append(ir.nodes[0]), "Duplicate node name 'linear'"),
    "duplicate input": (lambda ir: ir.graph_inputs.append(ir.graph_inputs[0]), "Duplicate graph input name 'x'"),
    "duplicate weight": (lambda ir: ir.weights.append(ir.weights[0]), "Duplicate weight name 'fc.weight'"),
    "bad dtype": (lambda ir: setattr(ir.weights[0], "dtype", "float33"), "unknown dtype 'float33'"),
    "no dtype": (lambda ir: setattr(ir.weights[0], "dtype", ""), "has no dtype"),
    "negative": (lambda ir: setattr(ir.weights[0], "shape", (4, -4)), "negative size in shape"),
    "not integers": (lambda ir: setattr(ir.weights[0], "shape", ("a",)), "shape must be a list of integers"),
    "bool size": (lambda ir: setattr(ir.weights[0], "shape", (True,)), "shape must be a list of integers"),
    "output": (lambda ir: setattr(ir.graph_outputs[0], "name", "ghost"), "'ghost' is not produced by any node"),
    "no node name": (lambda ir: setattr(ir.nodes[0], "name", ""), "Node 0 has no name"),
    "no op": (lambda ir: setattr(ir.nodes[0], "op_type", ""), "has no op_type"),
    "index": (lambda ir: setattr(ir.nodes[2].inputs[0], "producer_output_idx", 7), "which has 2"),
    "shape of an input": (lambda ir: setattr(ir.nodes[1].inputs[0], "shape", (9,)), "but 'linear' makes float32"),
    "weight": (lambda ir: ir.weight_name_mapping.clear(), "neither a weight nor a graph input"),
    "mapping": (lambda ir: ir.weight_name_mapping.update(p="ghost"), "maps to unknown weight 'ghost'"),
    "tie": (lambda ir: ir.ties.update(a="ghost"), "tied to unknown weight 'ghost'"),
    "names": (lambda ir: ir.output_names.extend(["a", "b"]), "output_names has 2 entries for 1 outputs"),
    "mutation": (
        lambda ir: ir.mutations.append(Mutation("fc.weight", "parameter", TensorMeta("ghost", (1,), "int8"))),
        "its value 'ghost' is not produced",
    ),
    "constant": (lambda ir: ir.constants.update({"fc.bias": torch.zeros(3)}), "constant 'fc.bias' has shape"),
    "body": (lambda ir: setattr(ir.nodes[0], "op_type", "cond"), "cond needs two bodies"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found(good, name):
    break_it, message = FAULTS[name]
    ir = copy.deepcopy(good)
    break_it(ir)
    assert message in faults(ir)


def test_all_faults_are_reported_at_once(good):
    ir = copy.deepcopy(good)
    for name in ("producer", "bad dtype", "output", "tie"):
        FAULTS[name][0](ir)
    text = faults(ir)
    assert text.startswith("IR validation failed with ")
    for name in ("producer", "bad dtype", "output", "tie"):
        assert FAULTS[name][1] in text
