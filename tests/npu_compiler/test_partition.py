"""Support checks and partitions, as the public surface promises them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from npu_compiler import (
    CompileError,
    Partition,
    PartitionPlan,
    TransferOp,
    compile,
    explain_ir,
    explain_support,
    get_supported_ops,
    is_op_supported,
    partition,
    partition_ir,
)
from torch import Tensor

from .helpers import ir_of


def meta(name: str) -> dict[str, Any]:
    return {"name": name, "shape": [2], "dtype": "float32"}


def node(name: str, op_type: str, *inputs: str, **attrs: Any) -> dict[str, Any]:
    return {
        "name": name, "op_type": op_type, "inputs": [meta(n) for n in inputs], "outputs": [meta(name)], "attrs": attrs,
    }  # fmt: skip


def graph(*nodes: dict[str, Any], outputs: tuple[str, ...] = (), weights: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "model_name": "cut", "graph_inputs": [meta("x")], "graph_outputs": [meta(n) for n in outputs],
        "weights": [meta(w) for w in weights], "weight_name_mapping": {}, "nodes": list(nodes), "constants": {},
    }  # fmt: skip


def by_name(op_type: str, attrs: dict[str, Any] | None) -> bool:
    return op_type.startswith("npu")


def shown(plan: PartitionPlan) -> list[Any]:
    return [
        (s.partition_id, s.target, [n["name"] for n in s.nodes], s.input_names, s.output_names)
        if isinstance(s, Partition)
        else (s.direction, s.tensor_names)
        for s in plan.steps
    ]


def test_steps() -> None:
    """Consecutive nodes of a kind; transfers bring all that was made before, from whichever side."""
    ir = graph(
        node("a", "npu.1", "x", "w"),
        node("b", "npu.2", "a"),
        node("c", "cpu.1", "b", "v"),
        node("d", "npu.3", "c", "a"),
        node("e", "npu.4", "x"),
        outputs=("e", "d"),
        weights=("w", "v"),
    )
    plan = partition(ir, by_name)
    assert plan.original_ir is ir
    assert shown(plan) == [
        (0, "npu", ["a", "b"], ["w", "x"], ["a", "b"]),
        ("to_cpu", ["b"]),
        (1, "cpu", ["c"], ["b", "v"], ["c"]),
        ("to_npu", ["a", "c"]),
        (2, "npu", ["d", "e"], ["a", "c", "x"], ["d", "e"]),
    ]


def test_no_transfer_of_what_is_given() -> None:
    ir = graph(node("a", "npu.1", "x"), node("b", "cpu.1", "x", "w"), outputs=("a", "b"), weights=("w",))
    assert shown(partition(ir, by_name)) == [
        (0, "npu", ["a"], ["x"], ["a"]),
        (1, "cpu", ["b"], ["w", "x"], ["b"]),
    ]


@pytest.mark.parametrize(("op", "target"), [("npu.1", "npu"), ("cpu.1", "cpu")])
def test_one_kind_is_one_part(op: str, target: str) -> None:
    ir = graph(node("a", op, "x"), node("b", op, "a"), outputs=("b",))
    assert shown(partition(ir, by_name)) == [(0, target, ["a", "b"], ["x"], ["b"])]


def test_no_nodes_no_steps() -> None:
    ir = graph()
    assert partition(ir).steps == [] and partition(ir, by_name).steps == []


def test_a_callback_is_asked_as_is() -> None:
    asked = []

    def callback(op_type: str, attrs: dict[str, Any] | None) -> bool:
        asked.append((op_type, attrs))
        return True

    partition(graph(node("a", "aten.relu.default", "x"), node("b", "odd", "a", k=1), outputs=("b",)), callback)
    assert asked == [("aten.relu.default", {}), ("odd", {"k": 1})]


def test_unknown_strategies_are_refused() -> None:
    with pytest.raises(ValueError, match="strategy 'cost'; expected 'sequential'"):
        partition(graph(), strategy="cost")


def test_types() -> None:
    step = TransferOp(["a"], "to_cpu")
    part = Partition(0, "npu", [], ["x"], [])
    assert (step.tensor_names, step.direction) == (["a"], "to_cpu")
    assert PartitionPlan([part, step], {}).steps[0] is part


def _mixed(x: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.inv(x @ y.t()).relu() + y.mode(0)[0].sum() * x[:, :1]


def test_shapes_and_dtypes_decide() -> None:
    """The same operator goes to the device or to the host by its dtype."""

    def both(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x.max() + 1, (y.double() + 1).float()

    ir = ir_of(both, torch.ones(3), torch.ones(3))
    reasons = {n["name"]: reason for n, reason in explain_ir(ir)}
    assert reasons["add"] is None and reasons["add_1"] == "dtype float64"
    assert is_op_supported("aten.add.Tensor", {"other": 1})
    targets = {
        n["name"]: s.target for s in partition(ir, is_op_supported).steps if isinstance(s, Partition) for n in s.nodes
    }
    assert targets["add"] == "npu" and targets["add_1"] == "cpu"


def test_parts_stand_alone() -> None:
    ir = ir_of(_mixed, torch.eye(3) + 1, torch.eye(3) * 2 + 1)
    before = json.dumps(ir)
    plan = partition(ir)
    parts = [s for s in plan.steps if isinstance(s, Partition)]
    assert {p.target for p in parts} == {"npu", "cpu"}
    for part in parts:
        own = partition_ir(plan, part)
        assert [t["name"] for t in own["graph_inputs"]] == part.input_names
        assert [t["name"] for t in own["graph_outputs"]] == part.output_names
        if part.target == "npu":
            assert [s.name for s in compile(own).output_specs] == part.output_names
    assert json.dumps(ir) == before


def test_weights_go_where_they_are_read() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    ir = ir_of(model, torch.ones(1, 3))
    seen = iter([True, False])
    plan = partition(ir, lambda op_type, attrs: next(seen))
    own = [partition_ir(plan, s) for s in plan.steps if isinstance(s, Partition)]
    names = [sorted(w["name"] for w in part["weights"]) for part in own]
    assert names == [["0.bias", "0.weight"], ["1.bias", "1.weight"]]
    assert [s.name for s in compile(own[0]).weight_specs] == ["0.weight", "0.bias"]


ATTRS: list[tuple[str, dict[str, Any] | None, bool]] = [
    ("aten.relu.default", None, True),
    ("aten.conv2d.default", {"stride": [2, 2], "padding": [1, 1], "dilation": [2, 2], "groups": 4}, True),
    ("aten.conv2d.padding", {"padding": "same"}, True),
    ("aten.conv2d.padding", {"padding": "other"}, False),
    ("aten.div.Tensor_mode", {"rounding_mode": "floor"}, True),
    ("aten.div.Tensor_mode", {"rounding_mode": "up"}, False),
    ("aten.batch_norm.default", {"training": False, "momentum": 0.1, "eps": 1e-5}, True),
    ("aten.dropout.default", {"p": 0.5, "train": False}, True),
    ("aten.dropout.default", {"p": 0.5, "train": True}, False),
    ("aten.to.dtype", {"dtype": "torch.float16"}, True),
    ("aten.to.dtype", {"dtype": "torch.float64"}, False),
    ("aten.pad.default", {"pad": [1, 1], "mode": "reflect"}, True),
    ("aten.pad.default", {"pad": [1, 1], "mode": "mirror"}, False),
    ("aten.gelu.default", {"approximate": "erf"}, False),
    ("aten.add.Tensor", {"alpha": 2, "beta": 3}, False),
    ("aten.cat.default", {"dim": 1, "_tensor_list_sizes": [3]}, True),
    ("aten.view.default", {"size": [3, 5, 7]}, True),
    ("aten.unfold.default", {"dimension": 1, "size": 2, "step": 1}, True),
    ("aten.rand.default", {"size": [2]}, False),
    ("aten.frobnicate.default", {}, False),
    ("<built-in function getitem>", {"index": 1}, True),
]


@pytest.mark.parametrize(("op_type", "attrs", "want"), ATTRS)
def test_is_op_supported(op_type: str, attrs: dict[str, Any] | None, want: bool) -> None:
    before = copy.deepcopy(attrs)
    assert is_op_supported(op_type, attrs) is want
    assert attrs == before


def test_supported_ops() -> None:
    ops = get_supported_ops()
    assert isinstance(ops, frozenset) and "aten.conv2d.default" in ops and "<built-in function getitem>" in ops
    assert all(isinstance(name, str) for name in ops)


def test_a_node_alone() -> None:
    assert explain_support(node("a", "aten.relu.default", "x")) is None
    assert explain_support(node("a", "aten.rand.default", size=[2])) == "it draws random numbers"
    assert explain_support({**node("a", "aten.relu.default", "x"), "outputs": [{**meta("a"), "shape": [3]}]}) == (
        "lowered to float32[2], the IR declares float32[3]"
    )
    assert explain_support({"op_type": "aten.relu.default"}) == (
        "malformed IR: a node: the key 'name' is missing; expected the format of docs/ir-format.md"
    )
    broken = {**node("a", "<built-in function getitem>", "x", index=3)}
    assert explain_support(broken) == "result 3 of 1"


def test_the_error_lists_every_obstacle_once() -> None:
    """With its count, reason and first node, and with the way on."""

    def model(x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.linalg.inv(x)
        return x + torch.rand(3, 3)

    with pytest.raises(CompileError) as caught:
        compile(ir_of(model, torch.eye(3), name="obstacles"))
    text = str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert "4 of 5 nodes of 'obstacles' cannot be compiled" in text
    assert "aten.linalg_inv.default, 3 times: no lowering for this operator; first at 'linalg_inv'" in text
    assert "aten.rand.default, 1 times: it draws random numbers" in text
    assert text.count("linalg_inv.default") == 1
    assert "partition" in text and "DAGExecutor" in text
