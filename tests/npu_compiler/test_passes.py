"""Every pass alone: which ops it leaves, and that the results stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from npu_compiler import compile
from torch import Tensor
from torch.utils import _pytree as pytree

from .helpers import OPTIONAL, as_numpy, assert_same, ir_of, module_of, only, ops, results
from .pass_cases import CASES, PassCase


@pytest.mark.parametrize("case", CASES, ids=[f"{c.passes} - {c.name}" for c in CASES])
def test_before_and_after(case: PassCase) -> None:
    model, inputs = module_of(case.build()), case.inputs()
    ir, stored = ir_of(model, *inputs), case.quantize(model)
    schemes = dict.fromkeys(case.quantized_weights(model), case.scheme)
    plain, passed = only(ir, quantized=schemes), only(ir, *case.passes.split(), quantized=schemes)
    assert ops(plain) == case.before
    assert ops(passed) == (case.before if case.after is None else case.after)
    want = [as_numpy(x) for x in pytree.tree_leaves(model(*inputs))]
    assert_same(results(plain, model, inputs, stored), want)
    assert_same(results(passed, model, inputs, stored), want)


def test_every_pass_has_a_case_in_which_it_fires() -> None:
    assert {name for c in CASES if c.after for name in c.passes.split()} == OPTIONAL


@pytest.mark.parametrize("name", sorted(OPTIONAL))
def test_each_pass_can_be_left_out(name: str) -> None:
    for case in [case for case in CASES if case.scheme is None][::3]:
        model, inputs = module_of(case.build()), case.inputs()
        ir = ir_of(model, *inputs)
        assert_same(results(compile(ir, disable={name}), model, inputs), results(compile(ir), model, inputs))


@pytest.mark.parametrize("disable", [{"alias"}, {"fold"}, {"cse", "nothing"}])
def test_other_names_are_refused(disable: set[str]) -> None:
    with pytest.raises(ValueError, match=r"cannot disable .*expected any of .*fuse_maps"):
        compile(ir_of(torch.relu, torch.ones(2)), disable=disable)


def test_unread_second_results_are_not_asked_for() -> None:
    pooled = torch.nn.MaxPool2d(2, return_indices=True)
    ir = ir_of(lambda x: (pooled(x)[0], x.sort()[1]), torch.randn(1, 2, 4, 4))
    assert [[v is None for v in op["out"]] for op in only(ir).data["main"]] == [[False, False]] * 2
    assert [[v is None for v in op["out"]] for op in only(ir, "dead_code").data["main"]] == [[False], [True, False]]


CACHE = (torch.zeros(6, 4), torch.tensor([2]), torch.randn(1, 4))


def _update(cache: Tensor, at: Tensor, row: Tensor) -> Tensor:
    return cache.index_copy(0, at, row)


UPDATES: dict[str, tuple[Any, list[int | None]]] = {
    "an update in place": (lambda c, i, r: (_update(c, i, r), c.sum() * 0), [None, None]),
    "then read": (lambda c, i, r: (lambda u: (u, u.sum()))(_update(c, i, r)), [0, None]),
    "read before": (lambda c, i, r: (lambda s: (_update(c, i, r + s), s))(c.sum()), [0, None]),
    "read by its own updates": (lambda c, i, r: _update(c, i, c[:1] + r), [0]),
    "updates from the input itself": (lambda c, i, r: _update(c, i, c[3:4]), [None]),
    "two updates of one input": (lambda c, i, r: (_update(c, i, r), _update(c, i, r * 2)), [None, 0]),
    "another shape": (lambda c, i, r: _update(c[1:], i, r), [None]),
    "through another value": (lambda c, i, r: _update(c * 1.5, i, r), [None]),
}


@pytest.mark.parametrize("name", UPDATES)
def test_aliases(name: str) -> None:
    """An output is an update in place of an input that nobody reads later, and then the input is a state."""
    function, want = UPDATES[name]
    model = module_of(function)
    program = compile(ir_of(model, *CACHE))
    assert [o["alias"] for o in program.data["outputs"]] == want
    assert [i["state"] for i in program.data["inputs"]] == [0 in want, False, False]
    assert_same(results(program, model, CACHE), [as_numpy(x) for x in pytree.tree_leaves(model(*CACHE))])


def test_an_input_written_in_place_is_updated_last() -> None:
    def step(x: Tensor, y: Tensor) -> Tensor:
        x.add_(y)
        return x * 2

    inputs = (torch.randn(3), torch.randn(3))
    program = compile(ir_of(step, *inputs))
    assert program.data["main"][-1]["op"] == "copy"
    assert [o["alias"] for o in program.data["outputs"]] == [None, 0]
    assert_same(
        results(program, module_of(step), inputs),
        [((inputs[0] + inputs[1]) * 2).numpy(), (inputs[0] + inputs[1]).numpy()],
    )
