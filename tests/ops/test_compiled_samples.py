"""PyTorch's samples of its operators through ``torch.compile(backend="npu")``: none is wrong, on device or host."""

from __future__ import annotations

import pytest
import torch

from .compiled_samples import outcomes
from .operator_samples import DTYPES, full_name, operators

SAMPLES = 2
LETTERS = ("_abcdefgh", "ijklm", "n", "opqrs", "tuvwxyz")


@pytest.mark.slow
@pytest.mark.parametrize("letters", LETTERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def test_samples(dtype: torch.dtype, letters: str) -> None:
    wrong, same = [], 0
    for op in operators():
        if op.name[0].lower() not in letters:
            continue
        for outcome in outcomes(op, dtype, SAMPLES):
            same += outcome.kind == "same"
            wrong += [f"{full_name(op)}: {outcome.reason}"] if outcome.kind == "wrong" else []
    assert not wrong, "\n".join(wrong)
    assert same > 5
