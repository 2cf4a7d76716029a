"""Results of ``torch.compile(model, backend="npu")`` that share memory: a write to one of them shows in the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from npu.dynamo.notices import HostWarning
from npu_base.errors import InvalidValueError
from torch import Tensor, nn

from tests.support.dynamo import X, compiled, fresh_dynamo, same

__all__ = ["fresh_dynamo"]


def with_host(model: Any) -> Any:
    """PyTorch views arguments that share memory as one, by strides, which the device leaves to the host."""
    warnings.simplefilter("ignore", HostWarning)
    return compiled(model, options={"fallback": "host"})


def assert_shares_memory(function: Callable[[Tensor], Sequence[Tensor]]) -> None:
    """Writes to one result after the other, in two calls, and compares all results and the argument each time."""
    run = with_host(function)
    for mode in (torch.no_grad, torch.inference_mode):
        torch._dynamo.reset()
        ours, torchs = X.clone(), X.clone()
        with mode():
            for _ in range(2):
                got, expected = run(ours), function(torchs)
                same(got, expected)
                for i, results in enumerate(zip(got, expected, strict=True)):
                    for result in results:
                        result.select(0, 0).fill_(i + 3) if result.dim() else result.fill_(i + 3)
                    same([*got, ours], [*expected, torchs])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (y := x * 2, y[0], y.view(-1), y.T, y.detach(), y[:, 1:]),
        lambda x: (x * 2)[0:2].split(1),
        lambda x: ((y := x * 2)[0], *y.unbind(1), *y.chunk(2, 1), torch.diagonal(y)),
        lambda x: (y := x.sum(), y.view(1), y + 0),
        lambda x: (y := x.T * 2, y.T, y[1]),
        lambda x: (y := (x.reshape(1, 3, 2, 2) * 2).to(memory_format=torch.channels_last), y[0], y.permute(0, 2, 3, 1)),
        lambda x: (y := torch.zeros(4, 4), y[:2], y.diagonal()),
        lambda x: (y := torch.tensor([1.0, 2.0]), y[1:], x + y[0]),
        lambda x: (y := x * 2, y.clone(), y + 0, y.T.contiguous(), x.clone(), y[1:]),
        lambda x: (y := x * 2, y.view(torch.int32), y.view(torch.uint8)[1]),
        lambda x: (y := x.double(), y[0], y.T, y + 0),
        lambda x: (y := torch.digamma(x.abs() + 1), y[1], z := x * 2, z[1]),
        lambda x: (y := torch.complex(x, x * 2), y.real, y.imag, torch.view_as_real(y)),
        lambda x: (y := torch.complex(x, x * 2).conj(), y.imag),
        lambda x: (torch.empty_strided((3, 4), (6, 1)).copy_(x), x.T * 2),
        lambda x: ((y := torch.empty_strided((3, 4), (6, 1)).copy_(x)), y[0], x.T * 2),
        lambda x: ((y := torch.sort(x)).values, y.values[0], y.indices, y.indices.T),
        lambda x: (x.add_(1), (y := x * 2), y[0], x[1]),
    ],
)
def test_results_share_memory_as_in_eager_mode(function: Callable[[Tensor], Any]) -> None:
    assert_shares_memory(function)


def test_writes_after_a_graph_break() -> None:
    def filled(x: Tensor) -> Tensor:
        cache = torch.zeros(4, 4)
        top, y = cache[:3], x * 2
        row = y[0]
        print(end="")
        top.copy_(x)
        row.zero_()
        return torch.cat([cache, y])

    same(with_host(filled)(X), filled(X))


def test_views_of_a_buffers_new_value() -> None:
    class Replacing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("last", torch.zeros(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            self.last = x * 2
            row = self.last[0]
            print(end="")
            row.zero_()
            return self.last.sum()

    ours, torchs = Replacing(), Replacing()
    run = with_host(ours)
    for _ in range(2):
        same(run(X), torchs(X))
        assert torch.equal(ours.last, torchs.last)


def test_views_are_not_computed_twice() -> None:
    """What only results read is a view of another result. It takes no part on the host."""

    def function(x: Tensor) -> Any:
        y = x * 2
        return y, y.as_strided((2, 2), (4, 1))

    same(compiled(function)(X), function(X))


def test_memory_with_gaps_is_left_to_pytorch() -> None:
    def function(x: Tensor) -> Any:
        y = torch.empty_strided((3, 4), (6, 1)).copy_(x)
        return y, y[0]

    with pytest.raises(InvalidValueError, match=r"share memory with gaps"):
        compiled(function)(X)
