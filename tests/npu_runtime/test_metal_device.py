"""What is particular to Metal: memory that is shared, threads, leaks, errors, chips on paper."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import npu_compiler
import numpy as np
import pytest
import torch
from npu_runtime import Device, Executor, InvalidValueError, NPUBuffer, Profiler, UnavailableError, load_weights
from safetensors.torch import save_file
from torch import Tensor, nn
from torch_ir import extract_ir

from tests.support.devices import metal_device


@pytest.fixture(scope="module")
def device() -> Device:
    return metal_device()


class Two(nn.Module):
    """Two products and what is between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(24, 40), nn.Linear(40, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()).softmax(-1)


X = torch.randn(5, 24, generator=torch.Generator().manual_seed(1))


class Made:
    def __init__(self, model: nn.Module, device: Device, *example: Tensor) -> None:
        self.model = model.eval().requires_grad_(False)
        self.program = npu_compiler.compile(extract_ir(self.model, example))
        self.executor = Executor(self.program, device)
        self.weights = load_weights(self.model.state_dict(), self.program, device)
        self.inputs = [spec.name for spec in self.program.input_specs]
        self.output = self.program.output_specs[0].name

    def __call__(self, *values: Any, **options: Any) -> NPUBuffer:
        outputs = self.executor.run(dict(zip(self.inputs, values, strict=True)), self.weights, **options)
        return outputs[self.output]


@pytest.fixture(scope="module")
def two(device: Device) -> Made:
    return Made(Two(), device, X)


def test_the_device_says_what_it_is(device: Device, two: Made) -> None:
    assert device.kind == "metal"
    assert device.name
    plan = two.executor.plan()
    assert "2 barriers" in plan
    assert "matmul" in plan
    summary = two.executor.summary
    assert (summary.dispatches, summary.barriers) == (3, 2)
    assert summary.bytes == summary.least_bytes > 0


def test_buffers_of_the_device_are_shared_with_numpy_and_torch(device: Device, two: Made) -> None:
    buffer = NPUBuffer.from_numpy(X.numpy(), device)
    before = two(buffer).to_numpy(copy=True)
    array = buffer.to_numpy()
    assert array.ctypes.data == buffer.native_handle
    array *= 2
    wanted = two.model(2 * X)
    np.testing.assert_allclose(two(buffer).to_numpy(), wanted, rtol=1e-5, atol=1e-6)
    output = two(buffer)
    assert torch.from_dlpack(output).data_ptr() == output.native_handle
    assert not np.array_equal(before, output.to_numpy())


def test_outputs_stay_as_long_as_they_are_held(two: Made) -> None:
    held = [(two(X * k), two.model(X * k)) for k in range(1, 12)]
    for got, wanted in held:
        np.testing.assert_allclose(got.to_numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_weights_of_a_file_are_used_where_it_is_mapped(tmp_path: Path, device: Device, two: Made) -> None:
    for name in ("a", "bb", "ccc", "dddd", "eeeee"):  # headers of different lengths: at multiples of 16 and not
        path = tmp_path / f"{name}.safetensors"
        save_file(two.model.state_dict(), path, metadata={"name": name})
        weights = load_weights(str(path), two.program, device)
        got = two.executor.run({two.inputs[0]: X}, weights)[two.output].to_numpy(copy=True)
        np.testing.assert_allclose(got, two.model(X), rtol=1e-5, atol=1e-6)


def test_many_threads(two: Made) -> None:
    inputs = [torch.randn(5, 24, generator=torch.Generator().manual_seed(i)) for i in range(24)]
    wanted = [two.model(x) for x in inputs]
    with ThreadPoolExecutor(6) as pool:
        for got, own in zip(pool.map(two, inputs), wanted, strict=True):
            np.testing.assert_allclose(got.to_numpy(), own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("runs", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_nothing_leaks(two: Made, runs: int) -> None:
    def memory() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc on this system")
    for _ in range(100):
        two(X)
    before = memory()
    for _ in range(runs):
        two(X)
    assert memory() - before < 4 << 20


def test_a_profile_has_a_time_for_each_kernel(two: Made) -> None:
    profiler = Profiler(two.executor)
    profiler.run(inputs={two.inputs[0]: X}, weights=two.weights)
    rows = profiler.summary("op")
    assert len(rows) == 3
    assert all(row.total_ms > 0 for row in rows)


class Rows(nn.Module):
    def forward(self, table: Tensor, rows: Tensor) -> Tensor:
        return table[rows]


def test_an_index_out_of_range_is_an_error_and_the_next_run_is_not(device: Device) -> None:
    table = torch.arange(12.0).view(4, 3)
    made = Made(Rows(), device, table, torch.tensor([0, 1]))
    with pytest.raises(InvalidValueError, match=r"out of range in dimension 0; got 4; expected from -4 to 3"):
        made(table, torch.tensor([0, 4]))
    np.testing.assert_array_equal(made(table, torch.tensor([-1, 2])).to_numpy(), table[[-1, 2]])


class Write(nn.Module):
    def forward(self, cache: Tensor, at: Tensor, row: Tensor) -> Tensor:
        return cache.index_copy(0, at, row)


def test_donated_memory_is_updated_in_place(device: Device) -> None:
    cache, at, row = torch.zeros(6, 4), torch.tensor([2]), torch.ones(1, 4)
    made = Made(Write(), device, cache, at, row)
    buffer = NPUBuffer.from_numpy(cache.numpy(), device)
    address = buffer.native_handle
    kept = made(buffer, at, row)
    assert kept.native_handle != address
    assert buffer.to_numpy().sum() == 0
    output = made(buffer, at, row, donate={made.inputs[0]})
    assert output.native_handle == address
    np.testing.assert_array_equal(output.to_numpy(), Write()(cache, at, row))


@pytest.mark.parametrize("chip", ["metal:m1", "metal:m4pro", "metal:m3ultra", "cuda:h200", "cuda:a100", "cuda:rtx4090"])
def test_chips_on_paper_plan_and_do_not_run(chip: str, two: Made) -> None:
    paper = Device(chip)
    assert paper.kind == chip.split(":")[0] and paper.name.endswith("(on paper)")
    executor = Executor(two.program, paper)
    assert executor.summary.seconds > 0
    assert "cores: about" in executor.plan()
    with pytest.raises(UnavailableError, match="not a device of this machine"):
        executor.run({two.inputs[0]: X}, two.weights)
    with pytest.raises(UnavailableError, match="not a device of this machine"):
        NPUBuffer.zeros([1], paper)


def test_a_chip_that_is_not_known_is_refused_with_all_that_are() -> None:
    for kind in ("cuda:h300", "metal:h200", "cuda:m1", "metal:", "cuda:"):
        with pytest.raises(InvalidValueError, match="there is no such kind of device") as refused:
            Device(kind)
        assert {"'metal:m4pro'", "'cuda:h200'", "'cuda:rtx5090'"} <= set(str(refused.value).replace(",", "").split())


def test_products_of_halves_are_faster_where_tensor_cores_are() -> None:
    """Figures of the chip's table: NVIDIA's for float32 are without tensor cores, Apple's chips have one rate."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(4096, 4096, dtype=dtype)
        program = npu_compiler.compile(extract_ir(nn.Linear(4096, 4096, bias=False).to(dtype), x))
        for chip in ("cuda:h200", "metal:m4max"):
            executor = Executor(program, Device(chip))
            assert "on an NVIDIA H200 with 132 cores" in executor.plan() or chip != "cuda:h200"
            seconds[chip, dtype] = executor.summary.seconds
    assert seconds["cuda:h200", torch.float32] > 10 * seconds["cuda:h200", torch.bfloat16]
    ratio = seconds["metal:m4max", torch.float32] / seconds["metal:m4max", torch.bfloat16]
    assert ratio == pytest.approx(1, rel=0.01)
    least = 2 * 4096**3 / 67e12  # float32 at the H200's peak
    assert least < seconds["cuda:h200", torch.float32] < 3 * least


def test_metal_backend_on_emulated_metal(device: Device) -> None:
    """As the walk-throughs have it; MetalBackend() never means the emulated one unless somebody says so."""
    code = """
import numpy as np
from npu_runtime import Device, MetalBackend, UnavailableError
backend = MetalBackend()
assert backend.name == "metal"
buffer = backend.allocate_buffer(np.ones((2, 3), np.float32))
assert buffer.to_numpy().sum() == 6
assert backend.allocate_zeros((4,)).to_numpy().sum() == 0
print(Device("metal").kind, Device().kind)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NPU_EMULATE_METAL": "1"},
        text=True,
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[0] == "metal"
