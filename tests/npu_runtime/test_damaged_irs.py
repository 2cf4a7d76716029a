"""IR dicts with a field dropped, of another type or with another name: an error says which, or they run."""

import contextlib
import copy
import re
from typing import Any

import npu_compiler
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from npu_runtime import CPUBackend, DAGExecutor, NPUError, execute_cpu_partition
from torch import nn
from torch_ir import extract_ir


class Counted(nn.Module):
    """Both sides, a buffer that is written, and a weight on each side."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.linalg.solve(torch.eye(4) * 9, self.first(x).relu())
        self.count.add_(1)
        return self.last(h) + self.count


X = torch.ones(4, 4)
MODEL = Counted().eval().requires_grad_(False)
STATE = MODEL.state_dict()
IR_DICT = extract_ir(MODEL, X).to_dict()
PLAN = npu_compiler.partition(IR_DICT)
HOST = next(step for step in PLAN.steps if getattr(step, "target", "") == "cpu")
DROP = "drop this key"
WRONG: list[Any] = [None, 3, -1, "other", [], {}, [3], {"a": 1}, True, 1.5, DROP]


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to each value in a nested dict, but for the value itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for key, inner in items for p in [(*path, key), *paths(inner, (*path, key))]]


def damaged(value: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    value = copy.deepcopy(value)
    owner = value
    for key in path[:-1]:
        owner = owner[key]
    if wrong == DROP:
        del owner[path[-1]]
    else:
        owner[path[-1]] = wrong
    return value


def run(plan: Any) -> None:
    dag = DAGExecutor(plan, CPUBackend())
    dag.load_weights(STATE)
    dag.execute({"x": X})


def with_ir(ir: dict[str, Any]) -> Any:
    plan = copy.copy(PLAN)
    plan.original_ir = ir
    return plan


@settings(max_examples=150, deadline=None)
@given(path=st.sampled_from(paths(IR_DICT)), wrong=st.sampled_from(WRONG))
def test_a_plan_of_a_damaged_ir(path: tuple[Any, ...], wrong: Any) -> None:
    with contextlib.suppress(NPUError):
        run(with_ir(damaged(IR_DICT, path, wrong)))


@settings(max_examples=100, deadline=None)
@given(path=st.sampled_from(paths(HOST.nodes)), wrong=st.sampled_from(WRONG))
def test_damaged_nodes_by_hand(path: tuple[Any, ...], wrong: Any) -> None:
    pool = {t["name"]: np.ones(t["shape"], t["dtype"]) for node in HOST.nodes for t in node["inputs"]}
    with contextlib.suppress(NPUError):
        execute_cpu_partition(damaged(HOST.nodes, path, wrong), pool, STATE)


AT, NODE = next((i, node["name"]) for i, node in enumerate(IR_DICT["nodes"]) if len(node["inputs"]) == 3)
NAMED: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "no nodes": (("nodes",), DROP, "'nodes' of the IR is missing; expected a list"),
    "nodes": (("nodes",), 3, r"'nodes' of the IR is wrong; got 3 \(int\); expected a list"),
    "node": (("nodes", 0), [], r"node 0 is wrong; got \[\] \(list\); expected a dict"),
    "operator": (("nodes", AT, "op_type"), {}, rf"'op_type' of node '{NODE}' is wrong; got {{}} \(dict\)"),
    "no inputs": (("nodes", AT, "inputs"), DROP, rf"'inputs' of node '{NODE}' is missing; expected a list"),
    "input": (("nodes", AT, "inputs", 0), 3, rf"input 0 of node '{NODE}' is wrong; got 3 \(int\); expected a dict"),
    "shape": (("nodes", AT, "outputs", 0, "shape"), [-1], rf"'shape' of output 0 of node '{NODE}' is wrong; got \[-1"),
    "dtype": (("graph_inputs", 0, "dtype"), DROP, "'dtype' of graph input 0 is missing; expected a string"),
    "output": (("graph_outputs", 0, "name"), "other", "graph output 'other' is not produced by any node"),
    "output names": (("output_names",), [["x"]], r"a name in 'output_names' is wrong; got \['x'\] \(list\); expected"),
    "mutations": (("mutations",), True, r"'mutations' of the IR is wrong; got True \(bool\); expected a list"),
    "target": (("mutations", 0, "target"), "other", "mutation 0 writes 'other', which is not a weight"),
    "value": (("mutations", 0, "value", "name"), "other", "mutation 0 stores 'other', which is not produced by"),
    "mapping": (("weight_name_mapping", "b_count"), "other", "weight_name_mapping names 'other', which is not a"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NAMED)
def test_what_is_wrong_is_named(kind: str) -> None:
    path, wrong, words = NAMED[kind]
    with pytest.raises(NPUError, match=words) as caught:
        run(with_ir(damaged(IR_DICT, path, wrong)))
    assert not re.search("KeyError|IndexError|AttributeError", str(caught.value))


@pytest.mark.parametrize("side", ["npu", "cpu"])
def test_an_operand_that_nothing_produces(side: str) -> None:
    number = next(i for i, step in enumerate(PLAN.steps) if getattr(step, "target", "") == side and step.nodes)
    plan = copy.deepcopy(PLAN)
    node = next(node for node in plan.steps[number].nodes if node["inputs"])
    node["inputs"][0] |= {"name": "nowhere", "producer_node": "nowhere"}
    with pytest.raises(NPUError, match=f"{node['name']}.*nowhere|nowhere.*{node['name']}"):
        run(plan)


def test_wrong_types_of_a_partition_by_hand() -> None:
    for arguments, words in (
        ((3, {}, {}), r"nodes is wrong; got 3 \(int\); expected a list of nodes"),
        (([3], {}, {}), r"node 0 is wrong; got 3 \(int\); expected a dict"),
        (([], 3, {}), "tensor_pool must be a mapping; got int"),
        (([], {}, 3), "weights must be a mapping; got int"),
        (([], {}, {}, 3), "weight_name_mapping must be a mapping; got int"),
    ):
        with pytest.raises(TypeError, match=words) as caught:
            execute_cpu_partition(*arguments)  # type: ignore[arg-type]
        assert isinstance(caught.value, NPUError)


def test_donations_of_a_wrong_type() -> None:
    dag = DAGExecutor(PLAN, CPUBackend())
    dag.load_weights(STATE)
    for donate in (3, None, [3], [[]], "x"):
        with pytest.raises(NPUError, match="donate must be a set of input names; got .*; expected a set such as"):
            dag.execute({"x": X}, donate=donate)  # type: ignore[arg-type]
