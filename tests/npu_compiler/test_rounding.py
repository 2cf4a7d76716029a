"""What a cast shows is rounded to its own dtype first, also where the arithmetic before it is fused with it."""

from __future__ import annotations

import itertools

import npu
import pytest
import torch

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


class CastAfterSum(torch.nn.Module):
    def __init__(self, dtype: torch.dtype, further: bool) -> None:
        super().__init__()
        self.dtype, self.further = dtype, further

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = (x + 1.0).to(self.dtype)
        return y.abs() if self.further else y


@pytest.mark.parametrize("further", [False, True], ids=["last", "inside"])
@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(FLOATS, 2)), ids=str)
def test_a_cast_shows_a_rounded_sum(source: torch.dtype, target: torch.dtype, further: bool) -> None:
    x = torch.randn(999, generator=torch.Generator().manual_seed(0)).to(source)
    model = CastAfterSum(target, further)
    assert torch.equal(npu.compile(model, (x,))(x), model(x))
