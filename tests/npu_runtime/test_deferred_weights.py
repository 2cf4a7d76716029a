"""Tensors that are made when a program is prepared, and kept only where it reads them as they are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import npu_compiler
import numpy as np
import pytest
import torch
from npu_runtime import Executor, InvalidTypeError, InvalidValueError, Weights
from torch import nn
from torch_ir import extract_ir

from tests.support.devices import chosen_device

WIDTH = 64


class Model(nn.Module):
    """Reads ``raw`` as it is, and the sum of ``a`` and ``b``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        for name in ("a", "b", "raw"):
            setattr(self, name, nn.Parameter(torch.randn(WIDTH, WIDTH), requires_grad=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (self.a + self.b) + self.raw


class Making:
    """Weights of a model, and how often each was made."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.weights = model.eval(), Weights()
        self.counts = dict.fromkeys(dict(model.named_parameters()), 0)
        for name, tensor in model.named_parameters():
            self.weights.defer(name, tensor.numpy().dtype.name, tuple(tensor.shape), self._maker(name, tensor))

    def _maker(self, name: str, tensor: torch.Tensor) -> Callable[[], Any]:
        def make() -> Any:
            self.counts[name] += 1
            return tensor.numpy().copy()

        return make

    def executor(self) -> Executor:
        return Executor(npu_compiler.compile(extract_ir(self.model, torch.zeros(WIDTH, WIDTH))), chosen_device())

    def check(self, executor: Executor) -> None:
        x = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(1))
        (result,) = executor.run(x, self.weights).values()
        torch.testing.assert_close(torch.from_numpy(result.to_numpy()), self.model(x))


def test_each_is_made_once() -> None:
    making = Making(Model())
    first, second = making.executor(), making.executor()
    assert making.counts == {"a": 0, "b": 0, "raw": 0} and len(making.weights) == 3 and "a" in making.weights
    making.weights.check(first.program)
    for executor in (first, second, first):
        making.check(executor)
        assert making.counts == {"a": 1, "b": 1, "raw": 1}
    assert making.weights.prepared_bytes == 2 * WIDTH * WIDTH * 4  # the sum, and `raw`


def test_what_was_dropped_is_made_again() -> None:
    making = Making(Model())
    making.executor().prepare(making.weights)
    np.testing.assert_array_equal(making.weights["a"].to_numpy(), making.model.a.numpy())
    assert making.counts["a"] == 2

    class Other(Model):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.a

    program = npu_compiler.compile(extract_ir(Other().eval(), torch.zeros(WIDTH, WIDTH)))
    (result,) = Executor(program, chosen_device()).run(torch.ones(WIDTH, WIDTH), making.weights).values()
    np.testing.assert_array_equal(result.to_numpy(), making.model.a.numpy())
    assert making.counts == {"a": 3, "b": 1, "raw": 1}


def test_replaced() -> None:
    making = Making(Model())
    executor = making.executor()
    making.check(executor)
    with torch.no_grad():
        making.model.raw.mul_(2)
    making.weights["raw"] = making.model.raw
    making.check(executor)
    assert making.counts == {"a": 2, "b": 2, "raw": 1}  # everything that was prepared is made anew


def test_what_makes_it_may_fail() -> None:
    model = Model()
    making = Making(model)
    executor = making.executor()

    def refuse() -> Any:
        raise KeyError("no such file")

    making.weights.defer("b", "float32", (WIDTH, WIDTH), refuse)
    for _ in range(2):
        with pytest.raises(KeyError, match="no such file"):
            executor.prepare(making.weights)
    with pytest.raises(KeyError):
        making.weights["b"]
    making.weights.defer("b", "float32", (WIDTH, WIDTH), lambda: model.b)
    making.check(executor)


def test_wrong_tensors_are_refused() -> None:
    making = Making(Model())
    executor = making.executor()
    for wrong in (np.zeros((WIDTH, 1), np.float32), np.zeros((WIDTH, WIDTH), np.float16)):
        making.weights.defer("a", "float32", (WIDTH, WIDTH), lambda wrong=wrong: wrong)
        with pytest.raises(InvalidValueError, match=r'"a" was made with another .*; got float\d\d\[64, .*64, 64\]'):
            executor.prepare(making.weights)
    making.weights.defer("a", "float32", (WIDTH,), lambda: None)
    with pytest.raises(InvalidValueError, match=r'weight "a" does not fit'):
        making.weights.check(executor.program)
    with pytest.raises(InvalidTypeError, match="what makes a tensor is not callable; got 3"):
        making.weights.defer("a", "float32", (1,), 3)  # type: ignore[arg-type]


def test_others_may_look_at_the_weights_meanwhile() -> None:
    """Neither thread waits for the other with Python's lock."""
    making = Making(Model())
    reached, names = threading.Event(), []

    def slow() -> Any:
        reached.set()
        threading.Event().wait(0.2)
        return making.model.a.numpy()

    making.weights.defer("a", "float32", (WIDTH, WIDTH), slow)
    executor = making.executor()
    worker = threading.Thread(target=lambda: executor.prepare(making.weights), daemon=True)
    worker.start()
    assert reached.wait(20)

    def look() -> None:
        names.extend(making.weights)
        names.append("raw" in making.weights and making.weights["raw"].shape)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    for thread in (worker, looking):
        thread.join(20)
        assert not thread.is_alive()
    assert names == ["a", "b", "raw", (WIDTH, WIDTH)]
