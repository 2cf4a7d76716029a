"""Programs as text: the compiler lists them as the core does."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from npu_compiler import CompiledProgram
from npu_runtime import Program

from tests.random_programs.making import a_program
from tests.random_programs.shrinking import Choices
from tests.random_programs.values import Choose

from . import golden


def both(program: CompiledProgram) -> tuple[str, str]:
    return program.text(), Program.parse(program.to_bytes()).text()


@pytest.mark.parametrize("name", golden.MODELS)
def test_small_models(name: str) -> None:
    mine, cores = both(golden.program(name))
    assert mine == cores


@pytest.mark.parametrize("seed", range(60))
def test_random_programs(seed: int) -> None:
    mine, cores = both(a_program(Choose(Choices([], np.random.default_rng(seed)))).program)
    assert mine == cores


def program(steps: list[Any], **names: str) -> CompiledProgram:
    """Of one map."""
    data = {
        "model_name": names.get("model", "one"), "producer": names.get("producer", ""), "symbols": [],
        "values": [{"name": "a", "dtype": "float32", "shape": [2]}, {"name": "b", "dtype": "float32", "shape": [2]}],
        "inputs": [{"name": names.get("input", "x"), "value": 0, "required": True, "state": False}],
        "outputs": [{"name": "y", "value": 1, "names": [names.get("other", "z")], "alias": None}],
        "weights": [], "constants": [], "prepare": [], "weight_name_mapping": {},
        "main": [{"op": "map", "name": names.get("op", "op"), "in": [0], "out": [1], "attrs": {"expr": steps}}],
    }  # fmt: skip
    return CompiledProgram(data)


def _float(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.floats(-1e9, 1e9).map(lambda x: round(x, 3))))
@example(0.0001)
@example(100000.0)
@example(-0.0)
@example(_float(1))
@example(1e23)
@example(5.244159103789809e16)
def test_numbers(number: float) -> None:
    mine, cores = both(program([["in", 0], ["const", number, "f"], ["add", 0, 1]]))
    assert mine == cores


@given(st.dictionaries(st.sampled_from(["model", "producer", "input", "other", "op"]),
                       st.text(st.characters(codec="utf-8"), min_size=1, max_size=150)))  # fmt: skip
@example({"model": 'a "quoted" \\ name', "input": "größe", "op": "tab\there", "other": "#"})
def test_names(names: dict[str, str]) -> None:
    if names.get("input") == names.get("other"):
        names.pop("other", None)
    mine, cores = both(program([["in", 0], ["neg", 0]], **names))
    assert mine == cores


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([["in", 0], ["const", 2, "f"], ["add", 0, 1], ["mul", 2, 0]], "(e0 + 2.0) * e0"),
        ([["in", 0], ["neg", 0], ["sub", 0, 1], ["sub", 0, 2]], "e0 - (e0 - -e0)"),
        ([["in", 0], ["exp", 0], ["add", 1, 1]], "t1 = exp(e0); t1 + t1"),
        ([["in", 0], ["cast", 0, "float16"], ["const", "-inf", "f"], ["max", 1, 2]], "max(float16(e0), -inf)"),
        ([["in", 0], ["const", 1, "f"], ["gt", 0, 1], ["where", 2, 0, 1]], "where(e0 > 1.0, e0, 1.0)"),
    ],
)
def test_expressions(steps: list[Any], text: str) -> None:
    mine, cores = both(program(steps))
    assert f'expr="{text}"' in mine and mine == cores


def test_everything_around_the_ops() -> None:
    listed = program([["in", 0], ["relu", 0]], model="m", producer="someone", op="act")
    listed.data["main"][0]["module"] = "net.act"
    mine, cores = both(listed)
    assert mine == cores == (
        'program m by "someone"\ninput x: %0 float32[2]\noutput y: %1 float32[2], also z\n'
        'main: 1 op\n  %1 float32[2] = map(%0) expr="relu(e0)"  # act (net.act)\n'
    )  # fmt: skip


def test_symbols() -> None:
    listed = program([["in", 0], ["relu", 0]])
    listed.data["symbols"] = [{"name": "len", "min": 1, "max": 4}]
    extent = {"sym": 0, "scale": 2, "offset": 1}
    for entry in listed.data["values"]:
        entry["shape"] = [extent]
    mine, cores = both(listed)
    assert mine == cores and "symbol len: 1 to 4\n" in mine and "%0 float32[2*len+1]" in mine
