"""The compiler's check of an op against that of the core, which every program has to pass."""

from __future__ import annotations

import collections
import copy
import random
from typing import Any

import numpy as np
import pytest
from npu_compiler import CompiledProgram
from npu_compiler.graph import Op, Value, View, whole
from npu_compiler.op_check import _CHECKS, check_op
from npu_compiler.opset import DTYPES, OPS
from npu_runtime import NPUError, Program

from tests.random_programs.making import a_program
from tests.random_programs.shrinking import Choices
from tests.random_programs.values import Choose


def ops_of(data: dict[str, Any]) -> list[Op]:
    values = [Value(v["name"], v["dtype"], tuple(v["shape"])) for v in data["values"]]

    def view(operand: Any) -> View | None:
        if operand is None:
            return None
        if isinstance(operand, int):
            return whole(values[operand])
        at, shape, strides, offset = operand
        return View(values[at], tuple(shape), tuple(strides), offset)

    return [
        Op(op["op"], op["name"], tuple(map(view, op["in"])), tuple(map(view, op["out"])), op.get("attrs") or {})
        for op in (*data["prepare"], *data["main"])
    ]


def fault_of(data: dict[str, Any]) -> str | None:
    for op in ops_of(data):
        try:
            check_op(op)
        except ValueError as error:
            return f"{op.name} ({op.kind}): {error}"
    return None


def refusal_of(data: dict[str, Any], constants: bytes) -> str | None:
    try:
        Program.parse(CompiledProgram(data, constants).to_bytes())
    except NPUError as error:
        return str(error)
    return None


def changed(data: dict[str, Any], rng: random.Random) -> tuple[dict[str, Any], str]:
    """With another attribute, extent, dtype or operand, and the kind of the op that has it."""
    data = copy.deepcopy(data)
    op = rng.choice([*data["prepare"], *data["main"]])
    attrs = op.get("attrs") or {}
    kind = rng.choice(("attr", "attr", "dtype", "shape", "operand"))
    if kind == "attr" and attrs:
        name = rng.choice(sorted(attrs))
        attr, value = OPS[op["op"]].attrs[name], attrs[name]
        if attr.kind == "choice":
            attrs[name] = rng.choice(attr.choices)
        elif attr.kind == "bool":
            attrs[name] = not value
        elif attr.kind in ("ints", "floats") and value:
            value[rng.randrange(len(value))] += rng.choice((-3, -1, 1, 3, 2**21))
        elif attr.kind in ("int", "float") and not isinstance(value, str):
            attrs[name] = value + rng.choice((-3, -1, 1, 3))
    operands = [x for x in (*op["in"], *op["out"]) if x is not None]
    chosen = rng.choice(operands)
    value = data["values"][chosen if isinstance(chosen, int) else chosen[0]]
    if kind == "dtype":
        value["dtype"] = rng.choice(sorted(DTYPES))
    shape = value["shape"] if isinstance(chosen, int) else chosen[1]
    if kind == "shape" and shape:
        d = rng.randrange(len(shape))
        shape[d] = max(0, shape[d] + rng.choice((-1, 1)))
    if kind == "operand" and len(op["in"]) > 1:
        op["in"].remove(rng.choice(op["in"]))
    return data, op["op"]


def compare(seeds: range) -> collections.Counter[str]:
    """How many programs both refuse, by the kind of the op that was changed."""
    rng, refused = random.Random(seeds.start), collections.Counter[str]()
    for seed in seeds:
        program = a_program(Choose(Choices([], np.random.default_rng(seed)))).program
        assert fault_of(program.data) is None
        for _ in range(10):
            data, kind = changed(program.data, rng)
            fault, refusal = fault_of(data), refusal_of(data, program.constants)
            if fault is not None:
                assert refusal is not None, fault
                refused[kind] += 1
            elif refusal is not None:
                assert "do not fit" not in refusal, refusal
    return refused


def test_the_core_agrees() -> None:
    assert sum(compare(range(20)).values()) > 50


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_the_core_agrees_often(part: int) -> None:
    assert set(compare(range(1000 * part, 1000 * part + 300))) == set(OPS)


def test_every_op_has_a_check() -> None:
    assert set(_CHECKS) | {"map"} == {name for name, op in OPS.items() if op.rules is None}
