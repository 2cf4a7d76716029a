"""Support checks and partitions, as the public surface promises them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from npu_compiler import (
    CompileError,
    ExtensionError,
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
from npu_compiler.lowering import LOWERINGS, Builder, lowering
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


@pytest.fixture(autouse=True)
def made_up_operators() -> Iterator[None]:
    """They compile, so that the callback alone decides."""

    def apply(b: Builder, x: Tensor, y: Tensor | None) -> Tensor:
        return b.map("x + x" if y is None else "x + y", "float32", x=x, **({} if y is None else {"y": y}))

    known = dict(LOWERINGS)
    lowering("npu.x.1", "npu.x.2", "npu.x.3", "npu.x.4", "cpu.x.1", "cpu.x.2")(apply)
    yield
    LOWERINGS.clear()
    LOWERINGS.update(known)


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
        node("a", "npu.x.1", "x", "w"),
        node("b", "npu.x.2", "a"),
        node("c", "cpu.x.1", "b", "v"),
        node("d", "npu.x.3", "c", "a"),
        node("e", "npu.x.4", "x"),
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
    ir = graph(node("a", "npu.x.1", "x"), node("b", "cpu.x.1", "x", "w"), outputs=("a", "b"), weights=("w",))
    assert shown(partition(ir, by_name)) == [
        (0, "npu", ["a"], ["x"], ["a"]),
        (1, "cpu", ["b"], ["w", "x"], ["b"]),
    ]


@pytest.mark.parametrize(("op", "target"), [("npu.x.1", "npu"), ("cpu.x.1", "cpu")])
def test_one_kind_is_one_part(op: str, target: str) -> None:
    ir = graph(node("a", op, "x"), node("b", op, "a"), outputs=("b",))
    assert shown(partition(ir, by_name)) == [(0, target, ["a", "b"], ["x"], ["b"])]


def test_no_nodes_no_steps() -> None:
    ir = graph()
    assert partition(ir).steps == [] and partition(ir, by_name).steps == []


def test_a_callback_gets_operators_and_attributes() -> None:
    asked = []

    def callback(op_type: str, attrs: dict[str, Any] | None) -> bool:
        asked.append((op_type, attrs))
        return True

    partition(graph(node("a", "aten.relu.default", "x"), node("b", "odd", "a", k=1), outputs=("b",)), callback)
    assert asked == [("aten.relu.default", {}), ("odd", {"k": 1})]


def test_unknown_strategies_are_refused() -> None:
    with pytest.raises(ValueError, match="strategy is unknown; got 'other'; expected 'sequential' or 'cost'"):
        partition(graph(), strategy="other")


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
        "internal error, please report it: its lowering gives float32[2]; expected float32[3], as the IR declares"
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


def parts_of(plan: PartitionPlan) -> list[tuple[str, list[str]]]:
    return [(s.target, [n["name"] for n in s.nodes]) for s in plan.steps if isinstance(s, Partition)]


def test_cost_has_as_few_borders_as_the_graph_allows() -> None:
    """Two chains that alternate, each with a node of the host in its middle."""
    ir = graph(
        node("a1", "npu.x.1", "x"), node("a2", "cpu.x.1", "a1"), node("a3", "npu.x.2", "a2"),
        node("b1", "npu.x.3", "x"), node("b2", "cpu.x.2", "b1"), node("b3", "npu.x.4", "b2"),
        outputs=("a3", "b3"),
    )  # fmt: skip
    assert len(parts_of(partition(ir, by_name))) == 5
    plan = partition(ir, by_name, strategy="cost")
    assert shown(plan) == [
        (0, "npu", ["a1", "b1"], ["x"], ["a1", "b1"]),
        ("to_cpu", ["a1", "b1"]),
        (1, "cpu", ["a2", "b2"], ["a1", "b1"], ["a2", "b2"]),
        ("to_npu", ["a2", "b2"]),
        (2, "npu", ["a3", "b3"], ["a2", "b2"], ["a3", "b3"]),
    ]
    assert plan.original_ir is ir and plan.strategy == "cost"


def test_cost_moves_only_what_crosses_and_only_once() -> None:
    ir = graph(
        node("a", "npu.x.1", "x"), node("b", "cpu.x.1", "a"),
        node("c", "npu.x.2", "b", "a"), node("d", "cpu.x.2", "c", "a"),
        outputs=("d",),
    )  # fmt: skip
    big = {**ir, "nodes": [{**n, "outputs": [{**meta(n["name"]), "shape": [1 << 22]}]} for n in ir["nodes"]]}
    big["nodes"] = [{**n, "inputs": [{**t, "shape": [1 << 22]} for t in n["inputs"]]} for n in big["nodes"]]
    moves = [step for step in shown(partition(big, by_name, strategy="cost")) if len(step) == 2]
    assert moves in ([("to_cpu", ["a"]), ("to_npu", ["b"]), ("to_cpu", ["c"])], [("to_cpu", ["a"])])


def test_a_cheap_node_between_nodes_of_the_host_stays_there() -> None:
    ir = graph(
        node("a", "npu.x.1", "x"), node("b", "cpu.x.1", "a"), node("c", "npu.x.2", "b"), node("d", "cpu.x.2", "c"),
        node("e", "npu.x.3", "d"), outputs=("e",),
    )  # fmt: skip
    plan = partition(ir, by_name, strategy="cost")
    assert parts_of(plan) == [("npu", ["a"]), ("cpu", ["b", "c", "d"]), ("npu", ["e"])]
    assert "cheaper on the host" in plan.reasons["c"] and set(plan.reasons) == {"b", "c", "d"}


def test_a_product_between_nodes_of_the_host_goes_to_the_device() -> None:
    def model(x: Tensor) -> Tensor:
        return torch.linalg.inv(torch.linalg.inv(x) @ x)

    large, small = (partition(ir_of(model, torch.eye(n)), strategy="cost") for n in (1024, 4))
    assert [target for target, _ in parts_of(large)] == ["cpu", "npu", "cpu"]
    assert [target for target, _ in parts_of(small)] == ["cpu"]


def test_results_are_taken_where_they_are() -> None:
    def model(x: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(x + 1)
        return (vectors * values).relu()

    plan = partition(ir_of(model, torch.eye(64)), strategy="cost")
    host = [name for target, names in parts_of(plan) if target == "cpu" for name in names]
    assert "linalg_eigh" in host and {"getitem", "getitem_1"} <= set(host)


def test_random_nodes_keep_their_order() -> None:
    ir = graph(
        node("r1", "aten.rand.default"), node("a", "npu.x.1", "x"), node("r2", "aten.rand.default", "a"),
        node("r3", "aten.rand.default"), outputs=("r1", "r2", "r3"),
    )  # fmt: skip
    order = [name for _, names in parts_of(partition(ir, by_name, strategy="cost")) for name in names]
    assert [name for name in order if name.startswith("r")] == ["r1", "r2", "r3"]


def test_strict_lists_all_that_is_refused() -> None:
    ir = graph(
        node("a", "npu.x.1", "x"), node("b", "cpu.x.1", "a"), node("c", "cpu.x.1", "b"), node("d", "cpu.x.2", "c"),
        outputs=("d",),
    )  # fmt: skip
    with pytest.raises(CompileError) as caught:
        partition(ir, by_name, strict=True)
    text = str(caught.value)
    assert "3 of 4 nodes of 'cut' are not supported" in text
    assert "cpu.x.1, 2 times: is_supported_fn returned False for it; first at 'b'" in text
    assert "cpu.x.2, 1 times" in text
    assert len(parts_of(partition(ir, lambda op, attrs: True, strict=True))) == 1
    with pytest.raises(CompileError, match="no lowering for this operator; first at 'linalg_inv'"):
        partition(ir_of(torch.linalg.inv, torch.eye(3)), strict=True)


def test_a_plan_explains_itself() -> None:
    ir = ir_of(_mixed, torch.eye(3) + 1, torch.eye(3) * 2 + 1)
    for strategy in ("sequential", "cost"):
        plan = partition(ir, strategy=strategy)
        report = plan.explain()
        parts = [s for s in plan.steps if isinstance(s, Partition)]
        assert [p.partition_id for p in report.parts] == [p.partition_id for p in parts]
        assert [sum(p.ops.values()) for p in report.parts] == [len(p.nodes) for p in parts]
        assert report.nodes("npu") + report.nodes("cpu") == len(ir["nodes"])
        assert report.bytes_crossing == sum(p.bytes_in for p in report.parts) > 0
        assert all(p.seconds > 0 for p in report.parts) and not any(
            p.reasons for p in report.parts if p.target == "npu"
        )
        reasons = {r.op: r.reason for p in report.parts for r in p.reasons}
        assert reasons["aten.linalg_inv.default"] == "no lowering for this operator"
        data = json.loads(json.dumps(report.to_dict()))
        assert data["strategy"] == strategy and len(data["parts"]) == len(parts)
        text = str(report)
        assert "on the host" in text and "aten.linalg_inv.default, 1 time, 'linalg_inv': no lowering" in text
    assert partition(ir, strategy="cost").explain().borders <= partition(ir).explain().borders
    assert str(partition(graph()).explain()).startswith("cut: 0 nodes on the device, 0 on the host; 0 parts")


def test_plans_by_hand_explain_themselves() -> None:
    plan = PartitionPlan([Partition(0, "cpu", [node("a", "cpu.x.1", "x")], ["x"], ["a"])], graph())
    assert plan.explain().parts[0].reasons[0].reason == "not supported"


@st.composite
def cut_graphs(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 14))
    nodes = []
    for i in range(count):
        inputs = draw(st.lists(st.sampled_from(["x", "w", *(f"n{j}" for j in range(i))]), max_size=3, unique=True))
        nodes.append(node(f"n{i}", f"{draw(st.sampled_from(['npu', 'cpu']))}.{i}", *inputs))
    outputs = draw(st.lists(st.sampled_from([f"n{i}" for i in range(count)]), min_size=1, unique=True))
    return graph(*nodes, outputs=tuple(outputs), weights=("w",))


@pytest.mark.parametrize("strategy", ["sequential", "cost"])
@settings(max_examples=150, deadline=None)
@given(ir=cut_graphs())
def test_any_graph_is_cut_so_that_it_can_run(strategy: str, ir: dict[str, Any]) -> None:
    plan = partition(ir, by_name, strategy=strategy)
    assert shown(plan) == shown(partition(ir, by_name, strategy=strategy))
    made: dict[str, str] = {}
    moved: set[tuple[str, str]] = set()
    parts = [s for s in plan.steps if isinstance(s, Partition)]
    for step in plan.steps:
        if isinstance(step, TransferOp):
            assert set(step.tensor_names) <= set(made)
            moved |= {(name, step.direction) for name in step.tensor_names}
            continue
        own = {n["name"] for n in step.nodes}
        for n in step.nodes:
            for name in (t["name"] for t in n["inputs"]):
                assert name in {"x", "w"} or name in made or name in own
        for name in set(step.input_names) & set(made):
            side = f"to_{step.target}"
            assert made[name] == step.target or (name, side) in moved
        made |= dict.fromkeys(own, step.target)
        wanted = {name for p in parts if p is not step for name in p.input_names}
        wanted |= {t["name"] for t in ir["graph_outputs"]}
        assert step.output_names == sorted(own & wanted)
    assert sorted(made) == sorted(n["name"] for n in ir["nodes"])
    assert [p.partition_id for p in parts] == list(range(len(parts)))
    for n in ir["nodes"]:
        assert made[n["name"]] == ("cpu" if n["name"] in plan.reasons else "npu")
        assert n["op_type"].startswith("npu") or made[n["name"]] == "cpu"
    assert len(parts) <= len([p for p in partition(ir, by_name).steps if isinstance(p, Partition)])


def test_a_callback_cannot_claim_what_does_not_compile() -> None:
    ir = graph(
        node("a", "aten.relu.default", "x"), node("b", "no.such.op", "a"), node("c", "aten.neg.default", "b"),
        outputs=("c",),
    )  # fmt: skip
    plan = partition(ir, lambda op_type, attrs: True)
    assert [step.target for step in plan.steps if isinstance(step, Partition)] == ["npu", "cpu", "npu"]
    assert plan.reasons == {"b": "no lowering for this operator"}
    plan = partition(ir, lambda op_type, attrs: op_type != "aten.neg.default")
    assert plan.reasons == {"b": "no lowering for this operator", "c": "is_supported_fn returned False for it"}
    with pytest.raises(CompileError, match=r"(?s)2 of 3 nodes .*no lowering.*returned False"):
        partition(ir, lambda op_type, attrs: op_type != "aten.neg.default", strict=True)


def test_a_callback_cannot_claim_a_dtype_that_no_program_has() -> None:
    ir = graph(node("a", "aten.relu.default", "x"), outputs=("a",))
    for tensor in (*ir["graph_inputs"], *ir["graph_outputs"], *ir["nodes"][0]["inputs"], *ir["nodes"][0]["outputs"]):
        tensor["dtype"] = "float64"
    plan = partition(ir, lambda op_type, attrs: True)
    assert plan.reasons == {"a": "dtype float64"}


def changes_attrs(op_type: str, attrs: dict[str, Any] | None) -> bool:
    assert attrs is not None
    attrs["dims"].append(7)
    attrs.clear()
    return True


def raises(op_type: str, attrs: dict[str, Any] | None) -> bool:
    raise KeyError(op_type)


def test_a_callback_cannot_change_the_ir() -> None:
    ir = graph(node("a", "npu.x.1", "x", dims=[1, 2]), outputs=("a",))
    before = copy.deepcopy(ir)
    partition(ir, changes_attrs)
    assert ir == before


def test_a_callback_that_fails() -> None:
    said = r"is_supported_fn tests.npu_compiler.test_partition.raises failed at node 'a', npu.x.1: KeyError: 'npu.x.1'"
    with pytest.raises(ExtensionError, match=said) as caught:
        partition(graph(node("a", "npu.x.1", "x"), outputs=("a",)), raises)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("answer", ["no", None, 1, [], torch.tensor(True)])
def test_a_callback_answers_true_or_false(answer: Any) -> None:
    kind = type(answer).__name__
    with pytest.raises(
        TypeError, match=rf"must return a bool; got .*, a {kind}, at node 'a', npu.x.1; expected True or"
    ):
        partition(graph(node("a", "npu.x.1", "x"), outputs=("a",)), lambda op, attrs: answer)


@pytest.mark.parametrize("answer", [True, np.True_])
def test_bools_of_numpy_are_bools(answer: Any) -> None:
    plan = partition(graph(node("a", "npu.x.1", "x"), outputs=("a",)), lambda op, attrs: answer)
    assert [target for target, _ in parts_of(plan)] == ["npu"]


@pytest.mark.parametrize("strict", ["x", 1, None])
def test_strict_is_a_bool(strict: Any) -> None:
    with pytest.raises(TypeError, match=r"strict must be a bool; got .*; expected True or False"):
        partition(graph(), strict=strict)
