"""``as_strided`` on operands that do not lie row-major: on the host it must see them as they lay in the trace."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import npu
import pytest
import torch
from npu.host_parts import HostWarning
from torch import Tensor, nn
from torch_ir import ConversionError

from tests.support.dynamo import fresh_dynamo

__all__ = ["fresh_dynamo"]

X = torch.arange(6.0).view(2, 3)
IMAGE = torch.arange(48.0).view(1, 4, 3, 4)


class Calls(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def both(function: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HostWarning)
        compiled = npu.compile(Calls(function), x, device="cpu")
        return [compiled(x), by_backend(function, x)]


def by_backend(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HostWarning)
        result: Tensor = torch.compile(function, backend="npu", options={"device": "cpu"})(x)
        return result


RIGHT: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "row-major": (lambda x: (x * 2).as_strided([2, 2], [1, 1]), X),
    "a transposed view": (lambda x: x.transpose(0, 1).as_strided([3, 2], [1, 3]), X),
    "a result in the order of its operand": (lambda x: (x.t() * 2).as_strided([2, 3], [1, 2]), X),
    "a copy": (lambda x: x.t().clone().as_strided([6], [1]), X),
    "the rest of a tensor": (lambda x: (x * 2)[1:].as_strided([2], [1]), X),
    "with an offset": (lambda x: (x * 2)[1:].as_strided([2], [1], 4), X),
    "channels last": (lambda x: (x.to(memory_format=torch.channels_last) + 1).as_strided([8], [3]), IMAGE),
    "as a copy": (lambda x: torch.as_strided_copy(x.t() * 2, [4], [1], 1), X),
    "scattered": (lambda x: torch.as_strided_scatter(x.t() * 2, torch.ones(4), [4], [1], 1), X),
    "nothing": (lambda x: (x.t() * 2).as_strided([0, 2], [1, 1]), X),
}


@pytest.mark.parametrize("name", RIGHT)
def test_elements(name: str) -> None:
    function, x = RIGHT[name]
    for result in both(function, x):
        assert torch.equal(result, function(x))


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: (x * 2).transpose(0, 1)[1:].as_strided([2], [2]), r"strides \[1, 3\] for \[2, 2\], with gaps"),
        (lambda x: (x * 2)[1:].as_strided([2], [1], 0), "memory beside its operand"),
        (lambda x: (x * 2)[:1].as_strided([2, 2], [3, 1]), "memory beside its operand"),
        (lambda x: x[:1].expand(2, 3).as_strided([3], [1]), "gaps or repetitions"),
    ],
)
def test_what_depends_on_other_memory_is_refused_or_runs_as_a_whole(
    function: Callable[[Tensor], Tensor], why: str
) -> None:
    with pytest.raises(ConversionError, match=why):
        npu.compile(Calls(function), X, device="cpu")
    assert torch.equal(by_backend(function, X), function(X))
