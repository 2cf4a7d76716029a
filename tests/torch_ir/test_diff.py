"""What counts as a difference of two graphs, and what does not."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn
from torch_ir import IR, OpNode, TensorMeta, extract_ir
from torch_ir.diff import diff_ir


class Net(nn.Module):
    def __init__(self, extra: bool = False, hidden: int = 8) -> None:
        super().__init__()
        self.a = nn.Linear(4, hidden)
        self.b = nn.Linear(hidden, 4)
        self.c = nn.Linear(4, 2)
        self.extra = extra

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.a(x))
        x = self.b(x)
        if self.extra:
            x = torch.relu(x) * 2
        return self.c(torch.relu(x))


def ir_of(**options: object) -> IR:
    return extract_ir(Net(**options).eval(), (torch.zeros(1, 4),))  # type: ignore[arg-type]


def test_same() -> None:
    result = diff_ir(ir_of(), ir_of())
    assert result.is_same
    assert result.to_dict()["same"] is True


def test_an_inserted_node_is_not_a_change_of_all_that_follow() -> None:
    result = diff_ir(ir_of(), ir_of(extra=True))
    assert sorted(n.split()[1] for n in result.nodes_added) == ["(aten.mul.Tensor)", "(aten.relu.default)"]
    assert not result.nodes_removed
    assert len(result.nodes_changed) == 1
    assert result.nodes_changed[0].changes == ["input 0 from: node relu_1 -> node relu_2"]
    assert result.ops == {"aten.mul.Tensor": (0, 1), "aten.relu.default": (2, 3)}
    back = diff_ir(ir_of(extra=True), ir_of())
    assert len(back.nodes_removed) == 2


def test_new_names_alone_are_no_difference() -> None:
    left = ir_of()
    text = json.dumps(left.to_dict()).replace('"linear_1"', '"renamed"').replace('"relu"', '"activation"')
    result = diff_ir(left, IR.from_dict(json.loads(text)))
    assert result.is_same
    assert result.renamed == 2


def test_shapes_of_weights_and_results() -> None:
    result = diff_ir(ir_of(), ir_of(hidden=16))
    assert "a.weight: float32 [8, 4] -> float32 [16, 4]" in result.weights_changed
    changed = {c.left: c.changes for c in result.nodes_changed}
    assert "outputs: float32 [1, 8] -> float32 [1, 16]" in changed["linear"]
    assert not result.nodes_added
    assert not result.nodes_removed
    assert not result.ops


def test_attributes_dtypes_and_wiring() -> None:
    left = ir_of()
    right = copy.deepcopy(left)
    right.nodes[1].attrs["beta"] = 2
    right.nodes[2].inputs[0].producer_node = "linear"
    right.nodes[3].op_type = "aten.gelu.default"
    right.nodes[4].absent_inputs = ["bias"]
    changes = {c.left: c.changes for c in diff_ir(left, right).nodes_changed}
    assert changes["relu"] == ["attr beta: (not there) -> 2"]
    assert "input 0 from: node relu -> node linear" in changes["linear_1"]
    assert changes["relu_1"] == ["op: aten.relu.default -> aten.gelu.default"]
    assert changes["linear_2"] == ["absent inputs: [] -> ['bias']"]


def test_tensor_attributes_compare_by_value() -> None:
    def one(value: float) -> IR:
        out = TensorMeta("n", (1,), "float32")
        return IR([OpNode("n", "my.op.default", [], [out], {"t": torch.tensor([value, 1.0])})], [], [out], [])

    assert diff_ir(one(1.0), one(1.0)).is_same
    assert not diff_ir(one(1.0), one(2.0)).is_same


def test_metadata_ports_ties_constants_and_mutations() -> None:
    left = ir_of()
    right = copy.deepcopy(left)
    right.model_name = "Other"
    right.graph_inputs[0].dtype = "float16"
    right.graph_outputs.append(TensorMeta("relu", (1, 8), "float32", "relu"))
    right.weights.append(TensorMeta("k", (1,), "float32"))
    right.constants["k"] = torch.ones(1)
    right.ties["c2.weight"] = "c.weight"
    result = diff_ir(left, right)
    assert result.metadata == ["model_name: 'Net' -> 'Other'"]
    assert result.inputs == ["input 0 (x): float32 [1, 4] -> float16 [1, 4]"]
    assert result.outputs == ["output 1 added: relu float32 [1, 8]"]
    assert result.weights_added == ["k float32 [1]"]
    assert result.other == ["constant 'k' added", "tie of 'c2.weight': none -> c.weight"]


@pytest.mark.parametrize("count", [2_000])
def test_large_graphs(count: int) -> None:
    def big(n: int) -> IR:
        nodes = [
            OpNode(f"n{i}", f"aten.op{i % 7}.default", [TensorMeta("p", (1,), "float32", f"n{i - 1}")],
                   [TensorMeta(f"n{i}", (1,), "float32")], module_path=f"layers.{i // 50}")
            for i in range(n)
        ]  # fmt: skip
        return IR(nodes, [], [], [])

    result = diff_ir(big(count), big(count + 1))
    assert len(result.nodes_added) == 1
    assert not result.nodes_changed
