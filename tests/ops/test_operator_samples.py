"""PyTorch's own samples of its operators: none is wrong, and what is refused is listed with its reason."""

from __future__ import annotations

import pytest
import torch

from tests.support.devices import chosen_device

from .operator_samples import DTYPES, LIST, operators, refusals, run

LETTERS = ("_abcdefgh", "ijklm", "n", "opqrs", "tuvwxyz")


@pytest.mark.slow
@pytest.mark.parametrize("letters", LETTERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def test_samples(dtype: torch.dtype, letters: str) -> None:
    listed = set(LIST.read_text().splitlines())
    chosen = [op for op in operators() if op.name[0].lower() in letters]
    assert chosen
    wrong, new, same = [], [], 0
    for op in chosen:
        outcomes = run(op, dtype, chosen_device())
        same += sum(outcome.kind == "same" for outcome in outcomes)
        wrong += [f"{op.name}: {outcome.reason}" for outcome in outcomes if outcome.kind == "wrong"]
        new += [line for line in refusals(op, dtype, outcomes) if line not in listed]
    assert not wrong, "\n".join(wrong)
    assert not new, "not in refused_samples.txt:\n" + "\n".join(new)
    assert same > 5


def test_refusals_have_reasons() -> None:
    for line in LIST.read_text().splitlines():
        _, _, reason = line.partition(" | ")
        assert reason.strip(), line
        assert "internal error" not in reason
