"""Attention, rotary positions and products side by side: found where they are, left where they only seem to be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from npu_compiler import CompiledProgram, compile
from torch import Tensor
from torch.utils import _pytree as pytree

from .helpers import OPTIONAL, as_numpy, assert_same, ir_of, module_of, results
from .transformer_cases import ATTENTION, INT8, JOINED, NO_ATTENTION, NO_INT8, NO_ROPE, PRODUCTS, ROPE, repeat


def tensors(shapes: tuple[Any, ...]) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(1)
    return tuple(s if isinstance(s, Tensor) else torch.randn(s, generator=g) for s in shapes)


def kinds(model: Any, inputs: tuple[Tensor, ...], disable: frozenset[str] = frozenset()) -> list[str]:
    """The ops of main, whose results are those of PyTorch."""
    built = module_of(model)
    program = compile(ir_of(built, *inputs), disable=disable)
    with torch.no_grad():
        want = [as_numpy(x) for x in pytree.tree_leaves(built(*inputs))]
    tolerance = 2e-3 if any(v["dtype"] == "float16" for v in program.data["values"]) else 1e-5
    program = CompiledProgram.from_bytes(program.to_bytes())
    got = results(program, built, inputs)
    assert_same(got[: len(want)], want, tolerance)
    return [op["op"] for op in program.data["main"]]


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_is_found(name: str) -> None:
    function, shapes = ATTENTION[name]
    found = kinds(function, tensors(shapes))
    assert found.count("attention") == 1
    assert not {"softmax", "matmul", "copy"} & set(found)
    assert "attention" not in kinds(function, tensors(shapes), frozenset({"fuse_attention"}))


@pytest.mark.parametrize("name", ["scaled queries", "scaled keys"])
def test_scales_of_queries_and_keys_become_the_attentions(name: str) -> None:
    function, shapes = ATTENTION[name]
    assert kinds(function, tensors(shapes)) == ["attention"]
    q, k, v = tensors(shapes)
    assert kinds(lambda q, k, v: (function(q, k, v), q * 0.3, k / 3), (q, k, v)).count("map") == 2


@pytest.mark.parametrize("name", NO_ATTENTION)
def test_what_is_no_attention_stays(name: str) -> None:
    function, shapes = NO_ATTENTION[name]
    found = kinds(function, tensors(shapes))
    assert "attention" not in found
    assert found.count("softmax") == 1


@pytest.mark.parametrize("name", INT8)
def test_keys_and_values_of_int8_are_read_as_they_are(name: str) -> None:
    function, shapes = INT8[name]
    program = compile(ir_of(function, *tensors(shapes)))
    (op,) = [op for op in program.data["main"] if op["op"] == "attention"]
    assert len(op["in"]) == 6
    kinds(function, tensors(shapes))


@pytest.mark.parametrize("name", NO_INT8)
def test_what_are_no_scales_of_rows(name: str) -> None:
    function, shapes = NO_INT8[name]
    program = compile(ir_of(function, *tensors(shapes)))
    assert [len(op["in"]) for op in program.data["main"] if op["op"] == "attention"] == [3]
    kinds(function, tensors(shapes))


@pytest.mark.parametrize("name", ROPE)
def test_rotary_positions_are_found(name: str) -> None:
    function, shapes = ROPE[name]
    found = kinds(function, tensors(shapes))
    assert found.count("rope") == 1
    assert "copy" not in found
    assert "rope" not in kinds(function, tensors(shapes), frozenset({"fuse_rope"}))


@pytest.mark.parametrize("name", NO_ROPE)
def test_what_is_no_rotation_stays(name: str) -> None:
    function, shapes = NO_ROPE[name]
    assert "rope" not in kinds(function, tensors(shapes))


@pytest.mark.parametrize("name", JOINED)
def test_queries_keys_and_caches_turn_in_one_op(name: str) -> None:
    function, shapes, want = JOINED[name]
    assert kinds(function, tensors(shapes)) == want


def test_caches_are_updated_in_place() -> None:
    function, shapes, _ = JOINED["queries, keys and caches"]
    inputs = tensors(shapes)
    program = compile(ir_of(function, *inputs))
    assert [o["alias"] for o in program.data["outputs"]] == [None, 5, 6]
    assert [i["state"] for i in program.data["inputs"]] == [False] * 5 + [True] * 2 + [False]


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_side_by_side(name: str) -> None:
    model, want = PRODUCTS[name]
    x = tensors(((3, 6),))
    assert sorted(kinds(model(), x)) == sorted(want)
    kinds(model(), x, frozenset({"merge_products"}))


def test_each_pass_for_transformers_can_be_left_out() -> None:
    function, shapes, _ = JOINED["queries, keys and caches"]
    for name in sorted(OPTIONAL):
        kinds(function, tensors(shapes), frozenset({name}))


def test_keys_and_values_have_as_many_heads() -> None:
    """Repeated keys beside values that are not: both are read as they are, or neither."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.softmax(q @ repeat(k, 2).transpose(2, 3), -1) @ v

    inputs = tensors(((2, 4, 5, 8), (2, 2, 7, 8), (2, 4, 7, 8)))
    assert kinds(attend, inputs) == ["copy", "attention"]
    op = compile(ir_of(attend, *inputs)).data["main"][1]
    shapes = [operand[1] if isinstance(operand, list) else None for operand in op["in"][1:3]]
    assert all(shape is None or shape[1] == 4 for shape in shapes)
