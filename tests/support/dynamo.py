"""What the tests of ``torch.compile(model, backend="npu")`` share. Modules name the fixtures that they import in
``__all__``."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from npu.dynamo import program as dynamo_program
from npu.dynamo.notices import HostWarning
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.support.devices import chosen_device
from tests.support.weights import build_seeded


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch.manual_seed(0)  # the tolerance is for weights of these sizes, whatever ran before
    torch.compiler.reset()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", HostWarning)
        yield
    torch.compiler.reset()


def compiled(model: Any, **settings: Any) -> Any:
    options = {"device": chosen_device(), "fallback": "error", **settings.pop("options", {})}
    return torch.compile(model, backend="npu", options=options, **settings)


def same(got: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    """Structure, dtypes and strides too."""
    left, right = pytree.tree_leaves(got), pytree.tree_leaves(wanted)
    assert len(left) == len(right)
    for g, w in zip(left, right, strict=True):
        assert type(g) is type(w)
        if isinstance(w, Tensor):
            torch.testing.assert_close(g, w.detach(), rtol=tolerance, atol=tolerance, equal_nan=True)
            assert g.stride() == w.stride()
        else:
            assert g == w


def check(function: Callable[..., Any], *args: Any, **settings: Any) -> None:
    same(compiled(function, **settings)(*copy.deepcopy(args)), function(*copy.deepcopy(args)))


def mlp() -> nn.Module:
    return build_seeded(lambda: nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4)))


X = torch.arange(12.0).reshape(3, 4)


class Counter:
    """How often programs were compiled and parameters prepared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.compiled = self.prepared = self.updated = 0
        for name, count in (("_prepare", "prepared"), ("_update", "updated"), ("__init__", "compiled")):
            self._count(monkeypatch, name, count)

    def _count(self, monkeypatch: pytest.MonkeyPatch, name: str, count: str) -> None:
        original = getattr(dynamo_program._Whole, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            setattr(self, count, getattr(self, count) + 1)
            return original(*args, **kwargs)

        monkeypatch.setattr(dynamo_program._Whole, name, counting)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(monkeypatch)
