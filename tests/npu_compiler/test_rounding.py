"""Half results are rounded where eager mode shows it."""

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


class WithElement(torch.nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = getattr(torch, name)

    def forward(self, x: torch.Tensor, element: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.function(x, element), self.function(element, x)


@pytest.mark.parametrize("dtype", FLOATS[1:], ids=str)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "remainder", "fmod", "maximum", "floor_divide"])
def test_a_single_element_beside_a_half_tensor(name: str, dtype: torch.dtype) -> None:
    """PyTorch keeps it in float32 where it is the second factor or a divisor, and rounds it everywhere else."""
    generator = torch.Generator().manual_seed(1)
    for shape in ((1,), (300,)):
        inputs = (torch.randn(shape, generator=generator) * 9).to(dtype), torch.tensor(-1.6299999952316284)
        model = WithElement(name)
        for got, want in zip(npu.compile(model, inputs)(*inputs), model(*inputs), strict=True):
            assert torch.equal(got, want)
