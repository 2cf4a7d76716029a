"""What only a GPU shows: its memory over many runs, threads, donation, errors, several GPUs.

On the GPU that NPU_TEST_DEVICE names; `make test-cuda` runs it, alone, so that memory is what these tests hold.
"""

from __future__ import annotations

import copy
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import npu
import npu_compiler
import numpy as np
import pytest
import torch
from npu_compiler import partition
from npu_runtime import (
    DAGExecutor,
    Device,
    Executor,
    InvalidValueError,
    NPUBuffer,
    NPUError,
    devices,
    load_weights,
    verdicts,
)
from torch import Tensor, nn
from torch_ir import extract_ir

from tests.support import numbers
from tests.support.devices import OnDevice, chosen_device

from .held_memory import device_bytes, host_bytes

GPU = chosen_device()
if GPU.kind == "cpu":
    pytest.skip("needs a GPU: NPU_TEST_DEVICE=cuda, as `make test-cuda` sets it", allow_module_level=True)

CUDA = GPU.kind.startswith("cuda")
RUNS = int(os.environ.get("NPU_TEST_RUNS", "10000"))
SLACK = 8 << 20  # bytes that a driver may take for itself
OTHERS = [d.kind for d in devices() if d.kind.startswith("cuda:") and d.available]
ONLY_CUDA = pytest.mark.skipif(not CUDA, reason="of CUDA alone")
TWO = pytest.mark.skipif(not OTHERS, reason="needs two GPUs of NVIDIA; this machine has one, or none")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.conv(x)))
        return torch.softmax(self.head(h.mean((2, 3))), -1)


class Made:
    """A model that is compiled and has its weights on a device."""

    def __init__(self, model: nn.Module, *example: Tensor, device: Device = GPU) -> None:
        self.model = model.eval()
        self.program = npu_compiler.compile(extract_ir(self.model, example))
        self.executor = Executor(self.program, device)
        self.weights = load_weights(self.model.state_dict(), self.program, device)
        self.inputs = [spec.name for spec in self.program.input_specs]
        (self.output,) = (spec.name for spec in self.program.output_specs)

    def __call__(self, *inputs: Any, **more: Any) -> NPUBuffer:
        return self.executor.run(dict(zip(self.inputs, inputs, strict=True)), self.weights, **more)[self.output]


def exact(model: nn.Module, x: Tensor) -> Tensor:
    return copy.deepcopy(model).double()(x.double())  # type: ignore[no-any-return]


X = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def net() -> Made:
    torch.manual_seed(0)
    return Made(Net(), X)


def held() -> tuple[int, int]:
    return host_bytes(), device_bytes() if CUDA else 0


def check_nothing_leaked(before: tuple[int, int]) -> None:
    host, device = (now - then for now, then in zip(held(), before, strict=True))
    assert host < SLACK, f"{host:,} bytes of the process"
    assert device < SLACK, f"{device:,} bytes of the GPU"


def test_many_runs_leak_nothing(net: Made) -> None:
    """With outputs dropped, held for a while, and passed on as inputs."""
    kept: list[NPUBuffer] = []
    on_device = NPUBuffer.from_numpy(X.numpy(), GPU)
    session = net.executor.session()

    def some(count: int) -> None:
        for i in range(count):
            kept.append(net(X if i % 2 else on_device))
            session.run({net.inputs[0]: on_device}, net.weights)
            if len(kept) > 8:
                kept.clear()

    some(200)
    session.settle()  # compiling takes memory of the host
    some(20)
    before = held()
    some(RUNS // 2)
    kept.clear()
    check_nothing_leaked(before)
    numbers.check(net(X).to_numpy(), exact(net.model, X), net.model(X), "after many runs")


def test_many_executors_leak_nothing() -> None:
    torch.manual_seed(0)
    model = Net().eval()

    def some(count: int) -> None:
        for _ in range(count):
            made = Made(model, X)
            made(X)
            assert made.executor.plan()

    some(20)
    before = held()
    some(100)
    check_nothing_leaked(before)


def test_buffers_give_their_memory_back() -> None:
    def some() -> None:
        for _ in range(50):
            NPUBuffer.zeros([64 << 20], GPU, "uint8")

    some()
    before = held()
    some()
    check_nothing_leaked(before)


def test_threads_do_not_disturb_each_other(net: Made) -> None:
    inputs = [torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(i)) for i in range(64)]
    alone = [net(x).to_numpy(copy=True) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            for got, wanted in zip(pool.map(net, inputs), alone, strict=True):
                np.testing.assert_array_equal(got.to_numpy(), wanted)


def test_threads_compile_at_the_same_time() -> None:
    """Plans of different programs, whose kernels are in part the same."""
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(24, 8 + i), nn.GELU(), nn.Linear(8 + i, 5)).eval() for i in range(6)]
    x = torch.randn(3, 24)
    programs = [npu_compiler.compile(extract_ir(model, x)) for model in models]
    results: dict[int, Any] = {}
    start = threading.Barrier(len(models))

    def work(i: int) -> None:
        start.wait()
        executor = Executor(programs[i], GPU)
        weights = load_weights(models[i].state_dict(), programs[i], GPU)
        (output,) = executor.run({programs[i].input_specs[0].name: x}, weights).values()
        results[i] = output.to_numpy(copy=True)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, model in enumerate(models):
        numbers.check(results[i], exact(model, x), model(x), f"model {i}")


class Write(nn.Module):
    def forward(self, cache: Tensor, at: Tensor, row: Tensor) -> Tensor:
        return cache.index_copy(0, at, row)


def test_donated_memory_is_updated_in_place() -> None:
    cache, at, row = torch.zeros(600, 40), torch.tensor([2]), torch.ones(1, 40)
    made = Made(Write(), cache, at, row)
    buffer = NPUBuffer.from_numpy(cache.numpy(), GPU)
    address = buffer.native_handle
    kept = made(buffer, at, row)
    assert kept.native_handle != address
    assert buffer.to_numpy().sum() == 0
    output = made(buffer, at, row, donate={made.inputs[0]})
    assert output.native_handle == address
    np.testing.assert_array_equal(output.to_numpy(), Write()(cache, at, row))


def test_an_error_of_one_run_is_not_of_the_next() -> None:
    table = torch.arange(12.0).view(4, 3)

    class Rows(nn.Module):
        def forward(self, table: Tensor, rows: Tensor) -> Tensor:
            return table[rows]

    made = Made(Rows(), table, torch.tensor([0, 1]))
    for _ in range(3):
        with pytest.raises(InvalidValueError, match=r"out of range in dimension 0; got 4; expected from -4 to 3"):
            made(table, torch.tensor([0, 4]))
        np.testing.assert_array_equal(made(table, torch.tensor([-1, 2])).to_numpy(), table[[-1, 2]])


@ONLY_CUDA
def test_memory_that_is_not_there_is_an_error_and_the_process_goes_on(net: Made) -> None:
    before = held()
    for _ in range(3):
        with pytest.raises((NPUError, MemoryError), match="memory"):
            NPUBuffer.zeros([1 << 20, 1 << 19], GPU, "uint8")
    check_nothing_leaked(before)
    assert net(X).to_numpy().sum() == pytest.approx(2, rel=1e-5)


def test_a_partitioned_model() -> None:
    class Parts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.softmax(torch.special.digamma(torch.relu(x) + 1).sin() @ x.T, -1)

    x = torch.randn(9, 9, generator=torch.Generator().manual_seed(0))
    ir = extract_ir(Parts(), x).to_dict()
    dag = DAGExecutor(partition(ir), OnDevice(GPU))
    for _ in range(5):
        (got,) = dag.execute({ir["graph_inputs"][0]["name"]: x}).values()
        numbers.check(np.asarray(got), Parts()(x.double()), Parts()(x), "in parts")


# On both sides of what CUDA launches at most along y and z of a grid, 65,535.
@pytest.mark.parametrize("rows", [65_535, 65_536, 70_001])
@pytest.mark.parametrize(
    "function", [lambda x: x.flip(0) + 1, lambda x: x.softmax(-1), lambda x: x.transpose(0, 1).contiguous()]
)
def test_large_grids(function: Any, rows: int) -> None:
    x = torch.randn(rows, 3, 2, generator=torch.Generator().manual_seed(0))

    class Calls(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    made = Made(Calls(), x)
    numbers.check(made(x).to_numpy(), function(x.double()), function(x), f"{rows} rows")


@ONLY_CUDA
def test_the_automatic_choice_mentions_a_bad_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(verdicts, "folder", lambda: tmp_path)
    monkeypatch.setattr(verdicts, "_mentioned", False)
    Device()  # silent without a verdict
    verdict = verdicts.Verdict.of(GPU, deviations=2, programs=200)
    assert verdict.driver and verdict.chip == GPU.name
    verdicts.keep_verdict(verdict)
    with pytest.warns(UserWarning, match="2 deviations in 200 programs on NVIDIA"):
        device = Device()
    assert device.kind == "cuda"
    verdicts.keep_verdict(replace(verdict, deviations=0))
    monkeypatch.setattr(verdicts, "_mentioned", False)
    Device()


@TWO
def test_two_gpus_compute_the_same(net: Made) -> None:
    other = Made(net.model, X, device=Device(OTHERS[0]))
    np.testing.assert_array_equal(net(X).to_numpy(), other(X).to_numpy())
    moved = NPUBuffer.from_numpy(net(X), Device(OTHERS[0]))
    np.testing.assert_array_equal(moved.to_numpy(), net(X).to_numpy())


@TWO
def test_two_gpus_at_the_same_time(net: Made) -> None:
    other = Made(net.model, X, device=Device(OTHERS[0]))
    wanted = net(X).to_numpy(copy=True)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda i: (net if i % 2 else other)(X), range(200)):
            np.testing.assert_array_equal(got.to_numpy(), wanted)


def test_the_packaged_sample_of_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(verdicts, "folder", lambda: tmp_path)
    report = npu.check_kernels(GPU)
    assert report.good, report.deviations
    assert report.kept_in is not None and report.not_run == 0
