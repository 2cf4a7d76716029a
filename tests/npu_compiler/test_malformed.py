"""An IR that is not one is refused with the node or tensor at fault, never with an error from inside the compiler."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from npu_compiler import (
    CompileError,
    IRError,
    Partition,
    compile,
    explain_ir,
    explain_support,
    is_op_supported,
    partition,
    partition_ir,
)
from torch import Tensor
from torch_ir import extract_ir

from . import golden
from .helpers import ir_of
from .test_file import mutated


@pytest.fixture(scope="module")
def graph() -> dict[str, Any]:
    factor = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def model(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        y.add_(1)
        return torch.addmm(y, x, x.t() * factor), x.max(1)[0]

    return ir_of(model, torch.ones(4, 4), torch.ones(4, 4), name="broken")


def tensor(**more: Any) -> dict[str, Any]:
    return {"name": "t", "dtype": "float32", "shape": [4, 4], **more}


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Writes the last of ``path`` where the others lead."""

    def change(ir: dict[str, Any]) -> None:
        at: Any = ir
        for key in path[:-2]:
            at = at[key]
        at[path[-2]] = path[-1]

    return change


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(ir: dict[str, Any]) -> None:
        at: Any = ir
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]

    return change


CONSTANT = {"dtype": "float32", "shape": [4], "encoding": "base64", "data": "AAAA"}
BAD: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no nodes": (drop("nodes"), "the key 'nodes' is missing"),
    "no outputs": (drop("graph_outputs"), "the key 'graph_outputs' is missing"),
    "no weights": (drop("weights"), "the key 'weights' is missing"),
    "nodes are no list": (put("nodes", {"a": 1}), "expected a list, got"),
    "a newer schema": (put("schema_version", 99), "schema version 99; expected at most 2"),
    "schema is text": (put("schema_version", "2"), "schema version '2'; expected"),
    "a node is a number": (put("nodes", 0, 7), "a node"),
    "a node without a name": (drop("nodes", 0, "name"), "a node: the key 'name' is missing"),
    "a node without outputs": (drop("nodes", 0, "outputs"), "node 'add_': the key 'outputs' is missing"),
    "op_type is a number": (put("nodes", 0, "op_type", 3), "node 'add_': its op_type is 3"),
    "attrs are a list": (put("nodes", 0, "attrs", [1]), "node 'add_'"),
    "absent_inputs is text": (put("nodes", 0, "absent_inputs", "x"), "node 'add_': expected a list"),
    "two nodes of a name": (put("nodes", 1, "name", "add_"), "two nodes are called 'add_'"),
    "two inputs of a name": (put("graph_inputs", 1, tensor(name="args_0")), "two inputs are called 'args_0'"),
    "two weights of a name": (lambda ir: ir["weights"].extend([tensor(), tensor()]), "two weights are called 't'"),
    "an extent is text": (put("graph_inputs", 0, "shape", ["a", 4]), r"tensor 'args_0' has the shape \['a', 4\]"),
    "an extent is negative": (put("graph_inputs", 0, "shape", [-1, 4]), r"tensor 'args_0' has the shape \[-1, 4\]"),
    "an extent is huge": (put("graph_inputs", 0, "shape", [2**40]), "tensor 'args_0' has the shape"),
    "a shape is a number": (put("graph_inputs", 0, "shape", 4), "tensor 'args_0': expected a list"),
    "a dtype is a number": (put("graph_inputs", 0, "dtype", 4), "tensor 'args_0': its dtype is 4"),
    "a dtype of its own": (put("graph_inputs", 0, "dtype", "float99"), "input 'args_0' has the dtype float99"),
    "a dtype that nothing computes": (put("graph_inputs", 0, "dtype", "complex64"), "'args_0' has the dtype complex64"),
    "a producer is a number": (put("nodes", 0, "inputs", 0, "producer_node", 5), "its producer is 5"),
    "a result is text": (put("nodes", 0, "inputs", 0, "producer_output_idx", "0"), "the result '0' of its producer"),
    "read with another shape": (
        put("nodes", 0, "inputs", 0, "shape", [2, 4]),
        r"node 'add_' takes 'args_1' for float32\[2, 4\]; it is float32\[4, 4\]",
    ),
    "read with another dtype": (put("nodes", 0, "inputs", 0, "dtype", "int64"), "node 'add_' takes 'args_1' for int64"),
    "written with another shape": (put("nodes", 0, "outputs", 0, "shape", [4]), r"takes 'add_' .* is float32\[4\]"),
    "an output of another shape": (put("graph_outputs", 0, "shape", [4]), "the output takes 'addmm' for"),
    "reads what nobody makes": (
        lambda ir: ir["nodes"][0]["inputs"].__setitem__(0, tensor(name="ghost")),
        "'ghost' is not an input, weight, constant or result",
    ),
    "reads what comes later": (lambda ir: ir["nodes"].reverse(), "which the program does not compute"),
    "reads a result that is not there": (put("nodes", -2, "inputs", 0, "producer_output_idx", 9), "does not compute"),
    "gives what nobody makes": (lambda ir: ir["graph_outputs"].append(tensor(name="ghost")), "'ghost' is not an input"),
    "updates what is not there": (put("mutations", 0, "target", "ghost"), "the mutated input 'ghost' is not among"),
    "updates with another shape": (
        lambda ir: ir["mutations"][0].update(value=ir["graph_outputs"][1]), "'args_1' is updated by 'getitem'"),
    "updates a parameter": (put("mutations", 0, "kind", "parameter"), "writes its parameter 'args_1' in place"),
    "mutations without values": (drop("mutations", 0, "value"), "the key 'value' is missing"),
    "ties of numbers": (put("ties", {"a": 1}), "'a' of ties is 1"),
    "a mapping to a list": (put("weight_name_mapping", {"a": []}), "'a' of weight_name_mapping"),
    "a constant cut short": (put("constants", "factor", CONSTANT), r"constant 'factor' has 3 bytes; .* needs 16"),
    "a constant that is no base64": (put("constants", "c", {**CONSTANT, "data": "!"}), "constant 'c'"),
    "a constant without data": (put("constants", "c", {"dtype": "float32"}), "constant 'c': the key 'data' is missing"),
    "a constant of a dtype unknown": (put("constants", "c", {**CONSTANT, "dtype": "float99"}), "constant 'c'|float99"),
    "a constant in another encoding": (put("constants", "c", {**CONSTANT, "encoding": "hex"}), "the encoding 'hex'"),
    "a constant that is no zlib": (put("constants", "c", {**CONSTANT, "encoding": "zlib+base64"}), "constant 'c'"),
    "a constant that is text": (put("constants", "c", "AAAA"), "constant 'c' is a str"),
    "getitem beyond the results": (put("nodes", -1, "attrs", {"index": 9}), "result 9 of 2.*'getitem_1'"),
    "getitem without an index": (put("nodes", -1, "attrs", {}), "result None of 2"),
    "an argument unknown": (put("nodes", 0, "attrs", {"other": 1, "gamma": 2}), "the argument 'gamma'"),
    "an argument of another type": (put("nodes", 0, "attrs", {"other": "x"}), "argument 'other' is 'x'.*'add_'"),
    "an argument too few": (put("nodes", 0, "inputs", []), "the argument 'self' is missing"),
    "a tensor too many": (lambda ir: ir["nodes"][0]["inputs"].append(tensor(name="args_0")), "1 more tensors"),
    "an argument is null": (put("nodes", 0, "attrs", "alpha", None), "node 'add_' .*'alpha' is null; expected a value"),
    "a needed argument is null": (put("nodes", -3, "attrs", "dim", None), "node 'max_1' .*'dim' is null; expected"),
    "no such operator": (put("nodes", 0, "op_type", "aten.frobnicate.default"), "no lowering for this operator"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(graph: dict[str, Any], name: str) -> None:
    change, message = BAD[name]
    ir = copy.deepcopy(graph)
    ir.setdefault("constants", {})
    change(ir)
    with pytest.raises(CompileError, match=f"(?s)\\[compiler\\] .*{message}") as caught:
        compile(ir)
    assert caught.value.__cause__ is None


def test_the_ir_that_the_others_spoil_compiles(graph: dict[str, Any]) -> None:
    assert compile(graph).data["outputs"][-1]["alias"] == 1


def test_what_is_no_ir_at_all(tmp_path: Path) -> None:
    for text in ("", "{", "[]", "3", "\x00"):
        path = tmp_path / "broken.json"
        path.write_text(text)
        with pytest.raises(IRError, match=r"broken\.json is not an IR file"):
            compile(path)
    with pytest.raises(FileNotFoundError, match=r"IR file not found: .*nothing\.json"):
        compile(tmp_path / "nothing.json")
    for thing in (None, 3, [], object()):
        with pytest.raises(TypeError, match="expected an IR, its dict or the path of its file"):
            compile(thing)
    with pytest.raises(ValueError, match="compute_dtype is not supported; got 'int8'; expected"):
        compile({}, compute_dtype="int8")


def test_paths_dicts_and_objects_are_the_same(tmp_path: Path) -> None:
    make, inputs = golden.MODELS["residual"]
    ir = extract_ir(make().eval(), inputs, model_name="same")
    path = tmp_path / "ir.json"
    ir.save(path)
    data = json.loads(path.read_text())
    assert compile(ir).to_bytes() == compile(path).to_bytes() == compile(str(path)).to_bytes()
    assert compile(data).to_bytes() == compile(path).to_bytes()


def cut(ir: dict[str, Any]) -> None:
    plan = partition(ir)
    plan.explain()
    for step in plan.steps:
        if isinstance(step, Partition):
            partition_ir(plan, step)


IMPOSSIBLE: dict[str, tuple[Callable[[Tensor], Any], str, Any]] = {
    "no chunks": (lambda x: x.chunk(2), "chunks", 0),
    "no sections": (lambda x: torch.tensor_split(x, 2), "sections", 0),
    "no channels shuffled": (lambda x: torch.pixel_shuffle(x, 2), "upscale_factor", 0),
    "windows that do not move": (lambda x: torch.nn.functional.max_pool2d(x, 2, 1), "stride", [0, 2]),
    "an empty window": (lambda x: torch.nn.functional.avg_pool2d(x, 2), "kernel_size", [0, 0]),
    "a slice that does not move": (lambda x: x[:, ::2], "step", 0),
    "no groups": (lambda x: torch.nn.functional.group_norm(x, 2), "num_groups", 0),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_arguments_that_pytorch_never_takes(case: str) -> None:
    function, name, value = IMPOSSIBLE[case]
    ir = ir_of(function, torch.ones(1, 4, 4, 4), name="impossible")
    node = next(node for node in ir["nodes"] if name in node["attrs"])
    assert explain_support(node) is None
    node["attrs"][name] = value
    message = f"its argument '{name}' is {value}; expected at least 1"
    where = rf"node '{node['name']}' \(.*\), {node['op_type']}: "
    with pytest.raises(IRError, match=f"malformed IR: {where}{re.escape(message)}"):
        compile(ir)
    assert explain_support(node) == f"malformed IR: {message}"
    assert not is_op_supported(node["op_type"], node["attrs"])


@pytest.mark.parametrize(
    ("function", "name"),
    [(lambda x: x.sum((0, 1)), "dim"), (lambda x: x.amax((0, 1)), "dim"), (lambda x: x.flip((0, 1)), "dims")],
    ids=["sum", "amax", "flip"],
)
def test_dimensions_that_appear_twice(function: Any, name: str) -> None:
    ir = ir_of(function, torch.ones(2, 3), name="twice")
    ir["nodes"][0]["attrs"][name] = [0, -2]
    with pytest.raises(IRError, match=r"malformed IR: node '.*: a dimension appears twice in \[0, -2\]"):
        compile(ir)


@pytest.mark.parametrize("function", [compile, explain_ir], ids=["compile", "explain_ir"])
def test_what_is_nested_too_deeply(function: Any) -> None:
    ir, deep = ir_of(lambda x: x.exp(), torch.ones(1), name="deep"), cast(list[Any], [])
    for _ in range(5000):
        deep = [deep]
    ir["nodes"][0]["attrs"]["x"] = deep
    with pytest.raises(IRError, match="malformed IR: node 'exp': lists or dicts are nested too deeply"):
        function(ir)


def test_states_that_an_older_pytorch_declares_with_another_rank() -> None:
    ir = extract_ir(torch.nn.LSTM(3, 5).eval(), (torch.ones(4, 2, 3),)).to_dict()
    at = next(i for i, node in enumerate(ir["nodes"]) if "lstm" in node["op_type"])
    node, after = ir["nodes"][at], ir["nodes"][at + 1 :]
    tensors = [t for n in after for t in (*n["inputs"], *n["outputs"])] + node["outputs"] + ir["graph_outputs"]
    for tensor in tensors:
        if tensor["shape"] == [1, 2, 5]:
            tensor["shape"] = [1, 1, 2, 5]
    with pytest.raises(CompileError, match="PyTorch before 2.12 exports with a wrong shape; use a newer PyTorch"):
        compile(ir)
    assert "wrong shape" in str(explain_support(node))


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_a_batch_norm_that_lost_an_input(lost: int) -> None:
    ir = extract_ir(torch.nn.BatchNorm2d(3).eval(), (torch.ones(2, 3, 4, 4),)).to_dict()
    node = next(node for node in ir["nodes"] if "batch_norm" in node["op_type"])
    del node["inputs"][lost]
    with pytest.raises(CompileError, match="without running_mean or running_var"):
        compile(ir)


def test_steps_of_a_range_may_be_negative() -> None:
    assert compile(ir_of(lambda x: torch.arange(4, 0, -1) + x, torch.ones(4)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("nodes", 0, "inputs", 0, "shape"), "node 'sinh': the key 'shape' is missing"),
        (put("nodes", 0, "inputs", 0, "shape", None), "node 'sinh': "),
        (put("nodes", 0, "inputs", 0, "shape", ["n"]), "node 'sinh': "),
        (put("nodes", 0, "outputs", 0, "shape", [-3]), "node 'sinh': one of its tensors has a negative extent"),
        (drop("nodes", 0, "outputs", 0, "dtype"), "node 'sinh': the key 'dtype' is missing"),
    ],
)
def test_a_plan_of_a_malformed_ir_says_so_when_it_explains(change: Any, message: str) -> None:
    ir = ir_of(torch.sinh, torch.ones(3))
    change(ir)
    plan = partition(ir)
    with pytest.raises(IRError, match=message):
        plan.explain()


@pytest.mark.parametrize("thing", [{}, {"name": "a"}, {"name": "a", "op_type": 3}, {"op_type": "aten.relu.default"}])
def test_what_is_no_node(thing: dict[str, Any]) -> None:
    assert str(explain_support(thing)).startswith("malformed IR: ")


@pytest.mark.parametrize("function", [compile, explain_ir, cut], ids=["compile", "explain_ir", "partition"])
@pytest.mark.parametrize("name", golden.MODELS)
def test_mutated_irs(name: str, function: Callable[[dict[str, Any]], Any]) -> None:
    ir, rng = golden.ir(name), random.Random(name)
    refused = 0
    for _ in range(300):
        try:
            function(mutated(ir, rng))
        except CompileError:
            refused += 1
    assert refused > 15
