"""``torch.compile(model, backend="npu")``: what it computes, for which sizes, and what it refuses."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from npu.dynamo import backend as dynamo_backend
from npu.dynamo.notices import HostWarning
from npu_base.errors import InvalidTypeError, InvalidValueError, NPUWarning
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.zoo.image_models import build, images
from tests.support import numbers
from tests.support.devices import chosen_device
from tests.support.dynamo import Counter, X, check, compiled, counts, fresh_dynamo, mlp, same

__all__ = ["counts", "fresh_dynamo"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 1,
        lambda x: x.t(),
        lambda x: (x + 1).t(),
        lambda x: (x + 1)[:, 1:3],
        lambda x: (x + 1)[0].expand(5, 4),
        lambda x: (x.sum(), x.max(), x.mean(1)),
        lambda x: (x, x.view(-1), x * 2),
        lambda x: (x > 3, x.argmax(1), x.to(torch.int32) // 2),
        lambda x: {"a": [x * 2, (x.shape[0], "text", None, 2.5)], "b": (x * 2,)},
        lambda x: x.unsqueeze(1).expand(3, 2, 4).contiguous(),
        lambda x: x[:0] * 2,
        lambda x: x.sum() if x.shape[0] == 3 else x,
        lambda x: x.permute(1, 0).contiguous(),
        lambda x: torch.tensor([1.0, 2, 3, 4]) * x + torch.tensor(5),
        lambda x: torch.ones(2, 2),
        lambda x: None,
        lambda x: (x.add_(1), x * 2),
        lambda x: x[1:].mul_(2),
        lambda x: (y := x + 1, y, y.view(-1)),
    ],
)
def test_results_are_those_of_pytorch(function: Callable[[Tensor], Any]) -> None:
    check(function, X.clone())


@pytest.mark.parametrize(
    "x",
    [
        X.t(),
        X[:, ::2],
        X[0].expand(3, 4),
        torch.tensor(2.0),
        torch.zeros(0, 4),
        X.bool(),
        X.to(torch.int64),
        X.to(torch.uint8),
        X.half(),
        X.bfloat16(),
        torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    ],
    ids=lambda x: f"{str(x.dtype)[6:]}{list(x.shape)}{x.stride()}",
)
def test_inputs_of_all_kinds(x: Tensor) -> None:
    check(lambda x: (x + x, x * 2, x == 1), x)


def test_numbers_that_the_model_changes_are_compiled_again(recwarn: pytest.WarningsRecorder) -> None:
    class Steps(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x * self.calls

    run = torch.compile(Steps(), backend="npu")
    with torch.no_grad():
        for n in (1, 2, 3, 4):
            assert torch.equal(run(X), X * n)
    assert not [one for one in recwarn if issubclass(one.category, NPUWarning)]


def test_writes_reach_the_callers_tensors() -> None:
    def step(cache: Tensor, row: Tensor, at: Tensor) -> Tensor:
        cache.index_copy_(0, at, row)
        return cache.sum(1)

    ours, torchs = torch.zeros(4, 3), torch.zeros(4, 3)
    run = compiled(step)
    for i in range(4):
        row, at = torch.randn(1, 3), torch.tensor([i])
        same(run(ours, row, at), step(torchs, row, at))
        assert torch.equal(ours, torchs)


def test_arguments_that_share_memory() -> None:
    def write(a: Tensor, b: Tensor) -> Tensor:
        a.add_(1)
        return b * 2

    run = torch.compile(write, backend="npu", options={"device": chosen_device()})
    warnings.simplefilter("ignore", HostWarning)  # PyTorch views the memory that both share as one, by strides
    for offset in (None, 0, 2):
        ours, torchs = torch.arange(8.0), torch.arange(8.0)

        def pair(base: Tensor, offset: int | None = offset) -> tuple[Tensor, Tensor]:
            return base[:4], torch.ones(4) if offset is None else base[offset : offset + 4]

        same(run(*pair(ours)), write(*pair(torchs)))
        assert torch.equal(ours, torchs)


def test_buffers_that_the_model_writes() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros((), dtype=torch.int64))
            self.register_buffer("total", torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            self.total = self.total + x.sum(0)
            return self.total / self.count

    ours, torchs = Counting(), Counting()
    run = compiled(ours)
    for _ in range(3):
        same(run(X), torchs(X))
    assert ours.count == 3
    assert torch.equal(ours.total, torchs.total)


def test_python_control_flow_breaks_the_graph() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = mlp(), mlp()

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            if y.sum() > 0:
                return self.b(x) - y
            print(end="")
            return torch.nonzero(y).float().sum() + self.b(x).relu()

    model = Branching()
    run = compiled(model)
    for seed in range(4):
        x = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed))
        same(run(x), model(x))


def test_models_hold_the_rule_for_numbers() -> None:
    for name in ("resnet18", "mobilenet_v3_small", "unet"):
        model, x = build(name), images(name, 2)
        with torch.inference_mode():
            got = compiled(model)(x)
        own, exact = model(x), copy.deepcopy(model).double()(x.double())
        numbers.check(got, exact, own, name)


def test_pooling_of_channels_last_images() -> None:
    x = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.ReLU())
    torch.testing.assert_close(compiled(pool)(x), pool(x))


def test_attention_keeps_its_operator() -> None:
    def attend(q: Tensor, mask: Tensor) -> Any:
        causal = F.scaled_dot_product_attention(q, q, q, is_causal=True)
        return F.scaled_dot_product_attention(q, q, q, attn_mask=mask, scale=0.3), causal

    q = torch.randn(1, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    check(attend, q, torch.ones(5, 5).tril().bool())


# Sizes


@pytest.mark.parametrize("dynamic", [None, True, False])
def test_new_sizes(dynamic: bool | None) -> None:
    model = mlp()
    run = compiled(model, dynamic=dynamic)
    for n in (2, 3, 5, 3, 1, 7):
        x = torch.randn(n, 8)
        same(run(x), model(x))


def test_marked_sizes_are_compiled_once_each(counts: Counter) -> None:
    model, xs = mlp(), [torch.randn(n, 8) for n in (2, 3, 2, 3)]
    run = compiled(model)
    torch._dynamo.utils.counters.clear()
    for x in xs:
        torch._dynamo.mark_dynamic(x, 0)
        same(run(x), model(x))
    assert (counts.compiled, torch._dynamo.utils.counters["stats"]["unique_graphs"]) == (2, 1)


def test_sizes_kept_are_bounded(monkeypatch: pytest.MonkeyPatch, counts: Counter) -> None:
    monkeypatch.setattr(dynamo_backend, "SIZES_KEPT", 2)
    run = compiled(lambda x: x * 2, dynamic=True)
    for n in (3, 4, 5, 3):
        same(run(torch.ones(n)), torch.ones(n) * 2)
    assert counts.compiled == 4


def test_open_numbers() -> None:
    run = compiled(lambda x, a, n: x * a + n)
    for a, n in ((2.0, 1), (3.0, 2), (4.5, 7), (-1.0, 9)):
        same(run(X, a, n), X * a + n)


# Refusals


def test_training_is_refused() -> None:
    with torch.enable_grad(), pytest.raises(InvalidValueError, match=r"for inference.*try .*torch\.no_grad"):
        compiled(mlp())(torch.randn(2, 8))


def test_gradients_that_nothing_records_are_no_training() -> None:
    with torch.enable_grad():
        check(lambda x: x * 2, X)
        model, x = mlp(), torch.randn(2, 8)
        same(compiled(lambda x: model(x).argmax(1))(x), model(x).argmax(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fallbck": "error"}, r"unknown option.*'fallbck'.*device, fallback, explain, threads.*try 'fallback'"),
        ({"fallback": "cpu"}, r"'fallback'.*got 'cpu'.*'host' or 'error'"),
        ({"explain": "yes"}, r"'explain'.*got 'yes'.*True or False"),
        ({"threads": -1}, r"'threads'.*got -1"),
        ({"threads": np.int64(-1)}, r"'threads'.*got -1"),
        ({"threads": 1.0}, r"'threads'.*got 1\.0"),
        ({"device": 3}, r"'device'.*got 3.*such as 'cpu'"),
        ({"device": "tpu"}, r"tpu"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        torch.compile(lambda x: x * 2, backend="npu", options=options)(X)


def test_options_must_be_a_dict() -> None:
    with pytest.raises(InvalidTypeError, match=r"options must be a dict; got list"):
        dynamo_backend.compile_graph(torch.fx.symbolic_trace(lambda x: x * 2), [X], options=[1])(X)


def test_modes_are_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"has no modes; got mode='max-autotune'"):
        torch.compile(lambda x: x * 2, backend="npu", mode="max-autotune")(X)


def test_a_refused_call_can_be_repeated() -> None:
    model, x = mlp(), torch.randn(2, 8)
    run = compiled(model)
    for _ in range(2):
        with torch.enable_grad(), pytest.raises(InvalidValueError, match="for inference"):
            run(x)
    same(run(x), model(x))


def test_the_backend_is_registered_without_importing_pytorch() -> None:
    assert "npu" in torch._dynamo.list_backends()
    code = "import sys, npu; assert 'torch' not in sys.modules; assert 'npu.dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
