"""What a case of an operator is, and makers of its inputs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from npu_base.quantization import Scheme
from torch import Tensor, nn

from tests.support.quantized import Quantized, quantized

Make = Callable[[torch.Generator], Tensor]


@dataclass(frozen=True)
class Case:
    """``refused`` is a part of the reason why it does not compile; ``tolerance`` is relative, for float32."""

    name: str
    function: Callable[..., Any]
    inputs: tuple[Make, ...]
    module: bool = False
    refused: str | None = None
    tolerance: float = 2e-5
    scheme: Scheme | None = None
    """How its weights of two dimensions and more are quantised."""

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        built = self.function() if self.module else _Calls(self.function)
        for name, buffer in built.named_buffers():
            if "running" in name:  # untrained statistics would hide what a batch norm does
                buffer.copy_(torch.rand(buffer.shape) + 0.5)
        for parameter in built.parameters():
            if parameter.ndim == 1:
                parameter.data = torch.randn(parameter.shape) * 0.5 + 0.7
        for name, weight in self.weights(built).items():
            built.get_parameter(name).data = weight.numbers.float()
        return built.eval()

    def schemes(self, model: nn.Module) -> dict[str, Scheme]:
        if self.scheme is None:
            return {}
        return {name: self.scheme for name, p in model.named_parameters() if p.ndim > 1}

    def weights(self, model: nn.Module) -> dict[str, Quantized]:
        return {name: quantized(name, model.get_parameter(name).shape, s) for name, s in self.schemes(model).items()}

    def in_double(self, model: nn.Module) -> nn.Module:
        """A copy with the numbers of quantised weights as they are, not rounded."""
        exact = copy.deepcopy(model).double()
        for name, weight in self.weights(model).items():
            exact.get_parameter(name).data = weight.numbers
        return exact

    def stored(self, model: nn.Module) -> dict[str, Tensor]:
        """The weights that the program takes."""
        state = dict(model.state_dict())
        schemes = self.schemes(model)
        for name, weight in self.weights(model).items():
            state.update(weight.stored(name, schemes[name]))
        return state

    def make(self, seed: int = 0) -> tuple[Tensor, ...]:
        g = torch.Generator().manual_seed(seed)
        return tuple(make(g) for make in self.inputs)


class _Calls(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args)


def f(*shape: int, scale: float = 2.0) -> Make:
    return lambda g: torch.randn(shape, generator=g) * scale


def positive(*shape: int) -> Make:
    return lambda g: torch.rand(shape, generator=g) * 3 + 0.1


def unit(*shape: int) -> Make:
    return lambda g: torch.rand(shape, generator=g) * 1.8 - 0.9


def i(*shape: int, low: int = -9, high: int = 9, dtype: torch.dtype = torch.int64) -> Make:
    return lambda g: torch.randint(low, high, shape, generator=g).to(dtype)


def nonzero(*shape: int, dtype: torch.dtype = torch.int64) -> Make:
    return lambda g: (torch.randint(1, 7, shape, generator=g) * (torch.randint(0, 2, shape, generator=g) * 2 - 1)).to(
        dtype
    )


def b(*shape: int) -> Make:
    return lambda g: torch.rand(shape, generator=g) > 0.4


def strided(*shape: int) -> Make:
    """Neither dense nor at the start of its memory."""
    return lambda g: torch.randn([n * 2 + 1 for n in shape[::-1]], generator=g)[
        tuple(slice(1, None, 2) for _ in shape)
    ].permute(*reversed(range(len(shape))))


def special(*shape: int) -> Make:
    def make(g: torch.Generator) -> Tensor:
        x = torch.randn(shape, generator=g)
        flat = x.view(-1)
        for at, value in enumerate((math.nan, math.inf, -math.inf, 0.0, -0.0)):
            flat[at * 2 % flat.numel()] = value
        return x

    return make


CASES: list[Case] = []


def case(name: str, function: Callable[..., Any], *inputs: Make, **more: Any) -> None:
    CASES.append(Case(name, function, inputs, **more))


def module(name: str, make: Callable[[], nn.Module], *inputs: Make, **more: Any) -> None:
    CASES.append(Case(name, make, inputs, module=True, **more))
