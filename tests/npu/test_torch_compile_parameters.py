"""When ``torch.compile(model, backend="npu")`` prepares parameters."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from npu.dynamo import program as dynamo_program
from torch import Tensor, nn

from tests.support.dynamo import Counter, compiled, counts, fresh_dynamo, mlp, same
from tests.support.weights import build_seeded

__all__ = ["counts", "fresh_dynamo"]


def test_parameters_are_prepared_once(counts: Counter) -> None:
    model = mlp()
    run = compiled(model)
    for _ in range(3):
        run(torch.randn(2, 8))
    assert (counts.compiled, counts.prepared, counts.updated) == (1, 1, 0)


def _load(model: nn.Module) -> None:
    model.load_state_dict({name: t + 1 for name, t in model.state_dict().items()})


def _write(model: nn.Module) -> None:
    model[3].weight.mul_(2)


def _replace_memory(model: nn.Module) -> None:
    model[0].weight.data = torch.randn(16, 8)


def _replace(model: nn.Module) -> None:
    model[0].weight = nn.Parameter(torch.randn(16, 8))


def _replace_module(model: nn.Module) -> None:
    model[3] = nn.Linear(16, 4)


@pytest.mark.parametrize("change", [_load, _write, _replace_memory, _replace, _replace_module])
def test_changed_parameters_are_noticed(change: Callable[[nn.Module], None]) -> None:
    model, x = mlp(), torch.randn(2, 8)
    run = compiled(model)
    before = run(x)
    change(model)
    after = run(x)
    same(after, model(x))
    assert not torch.allclose(before, after)


def test_parameters_may_be_swapped_after_a_reset() -> None:
    model, x = mlp(), torch.randn(2, 8)
    run = compiled(model)
    run(x)
    torch.compiler.reset()
    gc.collect()
    torch.utils.swap_tensors(model[0].weight, nn.Parameter(torch.randn(16, 8)))
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        _load(model)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    same(run(x), model(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_statistics_of_batch_norm_are_noticed(counts: Counter, dtype: torch.dtype) -> None:
    """Training in eager mode writes them, and PyTorch does not count it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16, momentum=0.5), nn.Linear(16, 4)).eval().to(dtype)
    run, x = compiled(model), torch.randn(3, 8).to(dtype)
    tolerance = 1e-5 if dtype is torch.float32 else 0.05
    for _ in range(3):
        torch.testing.assert_close(run(x), model(x), atol=tolerance, rtol=tolerance)
        model.train()(torch.randn(64, 8).to(dtype) * 3 + 2)
        model.eval()
    run(x)
    run(x)
    assert counts.updated == 3


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad])
@pytest.mark.parametrize("fused", [False, True])
def test_steps_of_optimizers_are_noticed(kind: Any, fused: bool) -> None:
    model, x = mlp(), torch.randn(2, 8)
    run = compiled(model)
    before = run(x)
    with torch.enable_grad():
        model.requires_grad_(True)(x).square().sum().backward()
        kind(model.parameters(), lr=0.1, fused=fused).step()
    after = run(x)
    same(after, model(x))
    assert not torch.allclose(before, after)


@pytest.mark.parametrize("size", [16, 256, 1024])
def test_memory_of_another_tensor_at_the_same_address_is_noticed(size: int) -> None:
    """A freed block is often handed out again."""
    model, x = nn.Sequential(nn.Linear(size, size)).eval().requires_grad_(False), torch.randn(2, size)
    run, layer = compiled(model), model[0]
    run(x)
    for _ in range(4):
        layer.weight.data = layer.weight.data + 1
        layer.weight.data = layer.weight.data * 2
        torch.testing.assert_close(run(x), model(x), atol=1e-3, rtol=1e-4)
        model.bfloat16()
        model.float()
        torch.testing.assert_close(run(x), model(x), atol=1e-3, rtol=1e-4)
        layer.weight.data = torch.empty(0)
        layer.weight.data = torch.randn(size, size)
        torch.testing.assert_close(run(x), model(x), atol=1e-3, rtol=1e-4)


def test_modules_of_one_class_have_parameters_of_their_own(counts: Counter) -> None:
    @torch.compiler.disable
    def apart(x: Tensor) -> Tensor:
        return x

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return apart(self.linear(x).relu())

    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Block() for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    model, x = build_seeded(Blocks), torch.randn(2, 8)
    run = compiled(model)
    for _ in range(2):
        same(run(x), model(x))
    assert counts.prepared == 4


def test_prepared_parameters_go_with_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    holders: list[Any] = []

    class Recorded(dynamo_program.Parameters[Any]):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            holders.append(self)

    monkeypatch.setattr(dynamo_program, "Parameters", Recorded)
    run = compiled(lambda module, x: module(x))
    model = nn.Linear(8, 4)
    run(model, torch.randn(2, 8))
    assert [len(holder._sets) for holder in holders] == [1]
    del model
    gc.collect()
    assert [len(holder._sets) for holder in holders] == [0]


def test_many_threads_may_call() -> None:
    """Also while others call for the first time, for which PyTorch traces."""
    model, x = mlp(), torch.randn(2, 8)
    run, wanted = compiled(model), model(x)

    def call(_: int) -> Tensor:
        with torch.no_grad():
            return run(x)

    def call_first(extent: int) -> None:
        other = nn.Linear(8, extent)
        with torch.no_grad():
            same(compiled(other)(x), other(x))

    with ThreadPoolExecutor(5) as pool:
        first = [pool.submit(call_first, extent) for extent in range(2, 8)]
        for got in pool.map(call, range(400)):
            same(got, wanted)
        for one in first:
            one.result()


def test_parameters_made_under_inference_mode_are_never_stale() -> None:
    with torch.inference_mode():
        model, x = nn.Linear(8, 4), torch.randn(2, 8)
        run = compiled(model)
        with pytest.warns(UserWarning, match="created under torch.inference_mode"):
            same(run(x), model(x))
        model.weight.mul_(3)
        same(run(x), model(x))
