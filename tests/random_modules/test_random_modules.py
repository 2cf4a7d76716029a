"""A few hundred random modules in each run; ``python -m tests.random_modules`` runs as many as one likes."""

from __future__ import annotations

import random

import pytest
import torch

from . import modules
from .modules import check, draw, draw_tensor
from .worker import workers

SEEDS = 40  # of one test


@pytest.fixture(autouse=True)
def checked_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPU_CHECK_PLAN", "1")


@pytest.mark.parametrize("shard", range(8))
def test_modules_equal_eager(shard: int) -> None:
    faults = [found for seed in range(shard * SEEDS, (shard + 1) * SEEDS) if (found := check(seed)) is not None]
    assert not faults, "\n".join(faults)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(10))
def test_modules_on_every_instruction_set(shard: int) -> None:
    others = workers()
    assert others
    try:
        seeds = range(10_000 + shard * 100, 10_000 + (shard + 1) * 100)
        faults = [found for seed in seeds if (found := check(seed, others)) is not None]
    finally:
        for worker in others:
            worker.close()
    assert not faults, "\n".join(faults)


def test_modules_have_variety() -> None:
    """Every kind of step is drawn, and PyTorch can run it."""
    programs = [draw(seed) for seed in range(600)]
    names = {step.name.split(" ")[0].split("[")[0] for program in programs for step in program.steps}
    expected = (
        "add where cat stack pad masked_fill sum mean std softmax flatten permute unfold exp clamp to sort argsort "
    )
    expected += "amax argmax any index_select x scatter scatter_add put accumulate copy copy_ add_ masked "
    expected += "pow isclose"
    assert not set(expected.split()) - names
    assert any(program.state is not None for program in programs)
    assert any(x.numel() == 0 for program in programs for x in program.inputs)
    compared = [program.qualities[at] for program in programs for at in program.results]
    assert compared.count("exact") > len(compared) / 2


def test_a_fault_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that are off by one wherever something was multiplied."""
    compare = modules.compare

    def wrong(program: modules.Program, at: int, ours: torch.Tensor, theirs: torch.Tensor, exact: bool) -> str | None:
        if any(step.name == "mul" for step in program.steps):
            ours = ~ours if ours.dtype == torch.bool else ours + 1
        return compare(program, at, ours, theirs, exact)

    monkeypatch.setattr(modules, "compare", wrong)
    told = next(found for seed in range(500) if (found := check(seed)) is not None)
    assert "= mul(" in told
    assert told.count(" = ") <= 6, told


def test_drawn_tensors_fit_their_dtypes() -> None:
    drawn = [draw_tensor(random.Random(seed)) for seed in range(200)]
    assert {x.dtype for x in drawn} == set(modules.DTYPES)
