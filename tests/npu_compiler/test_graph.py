"""The graph that passes rewrite: order, readers and writers stay right through every change."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from npu_compiler.compiler import Translation
from npu_compiler.graph import Graph, Op, Output, Value, View, dense_strides, remap, whole
from npu_compiler.lowering import Builder
from npu_compiler.oplist import OpList
from npu_compiler.passes import PASSES
from npu_compiler.reader import read_ir

from .helpers import ir_of


def value(name: str, *shape: int) -> Value:
    return Value(name, "float32", shape or (4,))


def op(name: str, *reads: Value, makes: Value | None = None) -> Op:
    return Op("copy", name, tuple(map(whole, reads)), (whole(makes or value(name)),))


def chain(count: int) -> tuple[Graph, list[Op]]:
    """Each op reads the one before it."""
    graph = Graph("chain", inputs=[value("x")])
    ops: list[Op] = []
    for i in range(count):
        ops.append(graph.append(op(f"op{i}", ops[-1].out.value if ops else graph.inputs[0])))
    return graph, ops


def names(graph: Graph) -> list[str]:
    return [op.name for op in graph.main]


def assert_kept(graph: Graph) -> None:
    """What the graph knows is what one finds by looking at every op."""
    readers: dict[Value, list[Op]] = {}
    writers: dict[Value, list[Op]] = {}
    for one in graph.ops():
        for read in dict.fromkeys(view.value for view in one.reads()):
            readers.setdefault(read, []).append(one)
        for written in dict.fromkeys(view.value for view in one.writes()):
            writers.setdefault(written, []).append(one)
    for known in {*readers, *writers, *graph._readers, *graph._writers}:
        assert graph.readers(known) == readers.get(known, [])
        assert graph.writers(known) == writers.get(known, [])
    assert sorted(map(graph.position, graph.ops())) == list(map(graph.position, graph.ops()))
    assert list(reversed(graph.main)) == list(graph.main)[::-1]
    assert len(graph.main) == len(list(graph.main))


def test_a_replacement_stands_where_the_op_stood() -> None:
    graph, ops = chain(3)
    new = graph.replace(ops[1], op("new", ops[0].out.value, makes=ops[1].out.value))
    assert names(graph) == ["op0", "new", "op2"]
    assert ops[1] not in graph and new in graph
    assert graph.readers(ops[0].out.value) == [new]
    assert graph.maker(ops[2].inputs[0]) is new
    assert_kept(graph)


def test_several_become_one_at_the_place_of_the_last() -> None:
    graph, ops = chain(4)
    graph.merge([ops[2], ops[0]], op("both", graph.inputs[0], makes=ops[2].out.value))
    assert names(graph) == ["op1", "both", "op3"]
    assert_kept(graph)


def test_insertions_at_one_place_never_run_out_of_numbers() -> None:
    graph, ops = chain(2)
    for i in range(200):
        graph.insert(op(f"new{i}"), before=ops[1])
    assert names(graph) == ["op0", *(f"new{i}" for i in range(200)), "op1"]
    for i in range(200):
        graph.insert(op(f"first{i}"), before=next(iter(graph.main)))
    assert names(graph)[0] == "first199"
    assert_kept(graph)


def test_changes_while_somebody_iterates() -> None:
    graph, ops = chain(5)
    seen = []
    for one in graph.main:
        seen.append(one.name)
        if one is ops[1]:
            graph.remove(ops[1], ops[2])
            graph.replace(ops[3], op("new", makes=ops[3].out.value))
        elif one is ops[0]:
            graph.insert(op("next"), before=ops[1])
    assert seen == ["op0", "next", "op1", "new", "op4"]
    assert names(graph) == ["op0", "next", "new", "op4"]
    assert_kept(graph)


def test_moves_between_functions() -> None:
    graph, ops = chain(3)
    graph.move(ops[0], ops=graph.prepare)
    assert list(graph.prepare) == [ops[0]] and names(graph) == ["op1", "op2"]
    assert graph.position(ops[0]) < graph.position(ops[1])
    assert graph.maker(ops[1].inputs[0]) is None  # made, but not in main
    graph.move(ops[0], before=ops[2])
    assert names(graph) == ["op1", "op0", "op2"]
    assert_kept(graph)


def test_an_output_has_no_only_reader() -> None:
    graph, ops = chain(2)
    assert graph.only_reader(ops[0].out.value) is ops[1]
    graph.outputs.append(Output("y", ops[0].out.value))
    assert graph.only_reader(ops[0].out.value) is None


def test_relocating_changes_all_readers_and_writers_or_none() -> None:
    graph = Graph("parts")
    x = value("x", 2, 3)
    graph.append(op("make", makes=x))
    rows = graph.append(Op("copy", "rows", (whole(x).slice(0, 1, 1),), (whole(value("row", 1, 3)),)))
    flat = graph.append(Op("copy", "flat", (View(x, (6,), (1,)),), (whole(value("flat", 6)),)))
    wide = value("wide", 2, 5)
    target = whole(wide).slice(1, 1, 3)
    assert not graph.relocate([x], lambda view: remap(view, target))
    assert names(graph) == ["make", "rows", "flat"] and rows in graph
    assert graph.relocate([x], lambda view: remap(view, target), skip=[flat])
    maker, rows, _ = graph.main
    assert maker.out == target
    assert rows.inputs[0] == View(wide, (1, 3), (0, 1), 6)
    assert graph.readers(x) == [flat]
    assert_kept(graph)


def test_ops_do_not_change_behind_the_graphs_back() -> None:
    graph, ops = chain(1)
    with pytest.raises(AttributeError, match="inputs"):
        ops[0].inputs = ()  # type: ignore[misc]
    with pytest.raises(TypeError, match="item assignment"):
        ops[0].inputs[0] = None  # type: ignore[index]
    with pytest.raises(AttributeError, match="main"):
        graph.main = []  # type: ignore[assignment,misc]
    with pytest.raises(KeyError):
        graph.remove(op("stranger"))


def test_attributes_are_changed_by_replacing_the_op() -> None:
    graph, (first,) = chain(1)
    attrs = {"axis": 1}
    changed = graph.change(first, attrs=attrs)
    attrs["axis"] = 2
    assert changed.attrs == {"axis": 1} and copy.deepcopy(changed.attrs) == {"axis": 1}
    for change in (
        lambda a: a.update(axis=2),
        lambda a: a.pop("axis"),
        lambda a: a.setdefault("more", 1),
        lambda a: a.__setitem__("axis", 2),
        lambda a: a.__delitem__("axis"),
        lambda a: a.clear(),
    ):
        with pytest.raises(TypeError, match=r"the attributes of an op are read-only; try graph\.change\(op, attrs="):
            change(changed.attrs)
    assert changed.attrs == {"axis": 1}


@pytest.mark.parametrize("seed", range(20))
def test_random_changes(seed: int) -> None:
    rng = random.Random(seed)
    graph, _ = chain(10)
    for i in range(60):
        ops = list(graph.main)
        one = rng.choice(ops)
        new = op(f"new{i}", *rng.sample(graph.inputs + [o.out.value for o in ops], 2))
        kind = rng.randrange(5)
        if kind == 0:
            graph.replace(one, new)
        elif kind == 1:
            graph.insert(new, before=one)
        elif kind == 2 and len(ops) > 3:
            graph.remove(one)
        elif kind == 3 and len(ops) > 3:
            graph.merge(rng.sample(ops, 2), new)
        elif len(ops) > 1:
            graph.move(one, before=rng.choice([o for o in ops if o is not one]))
        assert_kept(graph)


def test_every_pass_keeps_account() -> None:
    def model(x: torch.Tensor, w: torch.Tensor, m: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b = torch.relu(x @ w) * 2 + m, (x @ w).sigmoid()
        scores = torch.softmax(a @ b.mT * 0.5 + m[:, :1], -1) @ b
        y = scores * torch.rsqrt(scores.pow(2).mean(-1, keepdim=True) + 1e-5)
        return torch.cat((y, a + b), -1)[1:], y.sort()[1]

    inputs = (torch.randn(4, 6), torch.randn(6, 6), torch.randn(4, 6))
    graph = Translation(read_ir(ir_of(model, *inputs))).graph_of_all()
    for name, run in PASSES:
        before = len(graph.main)
        run(graph)
        assert_kept(graph)
        assert isinstance(graph.main, OpList) and len(graph.main) <= before, name


def test_strides_are_integers_of_python_also_of_shapes_of_numpy():
    assert dense_strides(np.array([5, 7, 0, 3])) == (21, 3, 3, 1)
    assert all(type(stride) is int for stride in dense_strides((5, 7, 0, 3)))


def test_a_formula_that_is_repeated_has_its_own_numbers_and_steps():
    x = value("x")
    builder = Builder(Graph("formulas", inputs=[x]))
    numbers = [0.0, -0.0, 2, 2.0, 0.0]
    maps = [builder.map("x + c", "float32", x=whole(x), c=c) for c in numbers]
    steps = [builder.graph.writers(view.value)[0].attrs["expr"] for view in maps]
    assert [repr(s[1][1]) for s in steps] == ["0.0", "-0.0", "2.0", "2.0", "0.0"]
    assert all(a is not b for s in steps for t in steps if s is not t for a, b in zip(s, t, strict=True))
    ids = Value("ids", "int64", (4,))
    (total,) = builder.graph.writers(builder.map("x + c", "int64", x=whole(ids), c=2).value)
    assert total.attrs["expr"][1] == ["const", 2, "i"]
