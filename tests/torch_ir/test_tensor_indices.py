"""Indices that are tensors without dimensions: reads, writes, and what a graph cannot say of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_ir import ConversionError, IRExecutor, extract_ir

from tests.torch_ir.proof import Fn

X = torch.arange(24.0).reshape(2, 3, 4)


def same(model: nn.Module, *args: Tensor, calls: int = 1) -> None:
    executor = IRExecutor(extract_ir(model.eval(), args), model.state_dict())
    eager = copy.deepcopy(model)
    for _ in range(calls):
        got, expected = executor(*map(Tensor.clone, args)), eager(*map(Tensor.clone, args))
        for ours, own in zip(got, expected if isinstance(expected, tuple) else (expected,), strict=True):
            torch.testing.assert_close(ours, own, rtol=0, atol=0)


@pytest.mark.parametrize("index", [torch.tensor(1), torch.tensor(-2), torch.tensor(0, dtype=torch.int16)])
@pytest.mark.parametrize(
    "read",
    [
        lambda x, i: x[i],
        lambda x, i: x[:, i],
        lambda x, i: x[..., i],
        lambda x, i: x[None, i, 1:, i],
        lambda x, i: x[i, i, i],
        lambda x, i: x[i, 0, None],
        lambda x, i: x[i, torch.tensor([0, 2])],
        lambda x, i: x[:, torch.tensor([0, 2]), i],
        lambda x, i: x[i].mul_(2),
    ],
)
def test_reads(read: Callable[[Tensor, Tensor], Tensor], index: Tensor) -> None:
    same(Fn(lambda x, i: read(x + 1, i)), X, index)


@pytest.mark.parametrize("index", [torch.tensor(1), torch.tensor(-2), torch.tensor(0, dtype=torch.int32)])
@pytest.mark.parametrize(
    ("at", "value"),
    [
        (lambda i: i, 5),
        (lambda i: i, X[0, 0]),
        (lambda i: i, X[:1]),
        (lambda i: i, X[0].double()),
        (lambda i: (slice(None), i), X[:, 1]),
        (lambda i: (..., i), X[..., 0]),
        (lambda i: (0, i, slice(1, 3)), X[0, 0, :2]),
        (lambda i: (i, None, i), X[0, 0]),
        (lambda i: (i, torch.tensor([0, 2])), X[0, 0]),
        (lambda i: (i, i, i), 5),
    ],
)
def test_writes(at: Callable[[Tensor], Any], value: Any, index: Tensor) -> None:
    def write(x: Tensor, i: Tensor) -> Tensor:
        y = x * 2
        y[at(i)] = value
        return y

    same(Fn(write), X, index)


def test_a_buffer_that_is_filled_row_by_row() -> None:
    class Cache(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("rows", torch.zeros(4, 3))
            self.register_buffer("at", torch.tensor(0))

        def forward(self, row: Tensor) -> tuple[Tensor, Tensor]:
            before = self.rows[self.at] + row
            self.rows[self.at] = self.rows[self.at] + row
            self.at.add_(1)
            return before, self.rows * 1

    same(Cache(), torch.randn(3), calls=3)


def read_then_written(x: Tensor, i: Tensor) -> Tensor:
    y = x + 1
    row = y[i]
    y.add_(1)
    return row


def written_through(x: Tensor, i: Tensor) -> Tensor:
    y = x + 1
    y[i].add_(1)
    return y


@pytest.mark.parametrize("function", [read_then_written, written_through])
def test_writes_to_what_an_element_shares_are_refused(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(ConversionError, match=r"that a tensor without dimensions selects is a view.*`x = x \+ y`"):
        extract_ir(Fn(function), (X, torch.tensor(1)))


def test_rows_at_an_index_of_one_dimension_are_copies() -> None:
    def function(x: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        y = x + 1
        rows = y[i.view(1)]
        y.add_(1)
        return rows, y

    same(Fn(function), X, torch.tensor(1))


def test_a_slice_that_begins_at_a_tensor_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"Data-dependent value.*x\.index_select\(0, i \+ torch\.arange\(n\)\)"):
        extract_ir(Fn(lambda x, i: x[i : i + 1]), (X, torch.tensor(1)))
