"""Grids longer along y or z than CUDA launches, which it then runs as a line; every device must take them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from npu_compiler import compile
from npu_runtime import Executor, load_weights
from torch import Tensor, nn
from torch_ir import extract_ir

from tests.support import numbers
from tests.support.devices import chosen_device

MANY = 66_000  # more than 65,535


class Whole(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return nn.functional.scaled_dot_product_attention(q, k, v)


CASES: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "products of z": (torch.bmm, [(MANY, 3, 4), (MANY, 4, 5)]),
    "rows of y": (lambda x: x.sort(-1).values, [(MANY, 40)]),
    "sums of y": (lambda x: x.sum(0), [(MANY * 64, 2)]),
    "copies of z": (lambda x: x.transpose(1, 2).contiguous(), [(MANY, 5, 6)]),
    "lines of y and z": (lambda x, y: x[:, ::2, 1:] + y.permute(2, 1, 0), [(MANY, 6, 4), (3, 3, MANY)]),
    "attention of z": (attention, [(MANY // 4, 4, 2, 8)] * 3),
    "convolutions of z": (nn.functional.conv2d, [(MANY, 3, 4, 4), (2, 3, 3, 3)]),
    "depthwise": (lambda x, w: nn.functional.conv1d(x, w, groups=MANY), [(1, MANY, 8), (MANY, 1, 3)]),
    "pools of z": (lambda x: nn.functional.max_pool2d(x, 2), [(MANY, 1, 4, 4)]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_long_grids(name: str) -> None:
    function, shapes = CASES[name]
    generator = torch.Generator().manual_seed(3)
    inputs = tuple(torch.randn(shape, generator=generator) for shape in shapes)
    model = Whole(function)
    program = compile(extract_ir(model, inputs))
    executor = Executor(program, chosen_device())
    weights = load_weights(model.state_dict(), program)
    session = executor.session()
    names = [spec.name for spec in program.input_specs]
    exact, own = function(*(x.double() for x in inputs)), function(*inputs)
    for _ in range(2):
        (got,) = session.run(dict(zip(names, inputs, strict=True)), weights).values()
        numbers.check(got.to_numpy(), exact, own, name)
        session.settle()
