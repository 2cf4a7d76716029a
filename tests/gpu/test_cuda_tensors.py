"""CUDA tensors of PyTorch go in and out without a copy, in order with PyTorch's streams. Needs an NVIDIA GPU and a
PyTorch that uses it."""

from __future__ import annotations

import gc
import threading

import npu
import npu_compiler
import numpy as np
import pytest
import torch
import torch_ir
from npu_runtime import CUDABackend, DAGExecutor, Device, Executor, NPUBuffer, devices, load_weights
from npu_runtime.errors import InvalidValueError, UnavailableError
from torch import nn

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this PyTorch finds no NVIDIA GPU"),
    pytest.mark.skipif(
        not any(d.kind == "cuda" and d.available for d in devices()), reason="device 'cuda' is not available"
    ),
]
GPU = "cuda:0"
CYCLES = 200_000_000  # of a kernel that only waits: about a tenth of a second


class Affine(nn.Module):
    def forward(self, x):
        return x * 3 + 1


class Cache(nn.Module):
    def forward(self, cache, x):
        cache.add_(x)
        return cache.sum()


def executor_of(model, *inputs, device="cuda"):
    program = npu_compiler.compile(torch_ir.extract_ir(model.eval(), inputs))
    return Executor(program, Device(device))


@pytest.fixture(scope="module")
def affine():
    return executor_of(Affine(), torch.zeros(1000))


def only(outputs):
    (output,) = outputs.values()
    return torch.from_dlpack(output)


DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_memory_is_shared(dtype):
    tensor = torch.ones(3, 5, device=GPU).to(dtype)
    buffer = NPUBuffer.from_dlpack(tensor)
    assert buffer.native_handle == tensor.data_ptr()
    assert buffer.__dlpack_device__() == (2, 0)
    assert buffer.shape == (3, 5)
    back = torch.from_dlpack(buffer)
    assert (back.data_ptr(), back.dtype, back.device) == (tensor.data_ptr(), dtype, tensor.device)
    tensor.zero_()
    torch.cuda.synchronize()
    assert not buffer.to_numpy().astype(np.float32).any()
    buffer.write_from_numpy(np.ones((3, 5)).astype(buffer.dtype))
    assert torch.equal(tensor, torch.ones_like(tensor))


def test_own_memory_is_shared():
    buffer = NPUBuffer.from_numpy(np.arange(6, dtype=np.float32).reshape(2, 3), Device("cuda"))
    tensor = torch.from_dlpack(buffer)
    assert tensor.device == torch.device(GPU)
    assert tensor.data_ptr() == buffer.native_handle
    tensor += 1
    torch.cuda.synchronize()
    np.testing.assert_array_equal(buffer.to_numpy(), np.arange(1, 7, dtype=np.float32).reshape(2, 3))
    assert np.from_dlpack(buffer, device="cpu").tolist() == buffer.to_numpy().tolist()
    with pytest.raises(BufferError, match="allow a copy"):
        buffer.__dlpack__(dl_device=(1, 0), copy=False)
    protected = torch.from_dlpack(buffer.read_only())
    assert protected.data_ptr() != buffer.native_handle
    assert torch.equal(protected, tensor)
    with pytest.raises(BufferError, match="cannot reach"):
        memoryview(buffer)


@pytest.mark.parametrize("own_stream", [False, True])
def test_runs_wait_for_the_current_stream(affine, own_stream):
    stream = torch.cuda.Stream() if own_stream else torch.cuda.current_stream()
    x = torch.zeros(1000, device=GPU)
    torch.cuda.synchronize()
    for i in range(3):
        with torch.cuda.stream(stream):
            torch.cuda._sleep(CYCLES)
            x.fill_(float(i))
            result = only(affine.run({"x": x}))
        assert torch.equal(result, torch.full((1000,), 3.0 * i + 1, device=GPU))


def test_results_are_ready_for_every_stream(affine):
    x = torch.arange(1000.0, device=GPU)
    streams = [torch.cuda.Stream() for _ in range(4)]
    torch.cuda.synchronize()
    result = only(affine.run({"x": x}))
    for stream in streams:
        with torch.cuda.stream(stream):
            assert torch.equal(result, x * 3 + 1)


def test_inputs_of_every_form(affine):
    base = torch.randn(50, 40, device=GPU)
    expected = base.t().reshape(-1)[:1000] * 3 + 1
    forms = {
        "strided": base.t().reshape(-1).repeat_interleave(2)[::2][:1000],
        "offset by 4 bytes": torch.cat([base.new_zeros(1), base.t().reshape(-1)])[1:1001],
        "requires grad": base.t().reshape(-1)[:1000].clone().requires_grad_(),
        "on the host": base.t().reshape(-1)[:1000].cpu(),
        "numpy": base.t().reshape(-1)[:1000].cpu().numpy(),
    }
    for name, x in forms.items():
        torch.testing.assert_close(only(affine.run({"x": x})), expected, msg=name)


def test_lifetimes(affine):
    gc.collect()
    before = torch.cuda.memory_allocated()
    tensor = torch.full((1000,), 2.0, device=GPU)
    buffer = NPUBuffer.from_dlpack(tensor)
    del tensor
    gc.collect()
    other = torch.full((1000,), 5.0, device=GPU)  # would get the memory if it were free
    assert buffer.to_numpy().tolist() == [2.0] * 1000
    del other
    result = only(affine.run({"x": buffer}))
    del buffer
    gc.collect()
    assert torch.cuda.memory_allocated() == before
    more = [only(affine.run({"x": np.zeros(1000, np.float32)})) for _ in range(20)]
    assert result.tolist() == [7.0] * 1000
    assert all(tensor.tolist() == [1.0] * 1000 for tensor in more)


def test_states_are_donated():
    executor = executor_of(Cache(), torch.zeros(16), torch.zeros(16))
    cache, x = torch.zeros(16, device=GPU), torch.ones(16, device=GPU)
    buffer = NPUBuffer.from_dlpack(cache)
    for i in range(1, 5):
        outputs = executor.run({"cache": buffer, "x": x}, donate={"cache"})
        assert buffer.donated
        buffer = next(b for b in outputs.values() if b.shape == (16,))
        assert buffer.native_handle == cache.data_ptr()
        assert cache.tolist() == [float(i)] * 16
    with pytest.raises(InvalidValueError, match="from_dlpack"):
        executor.run({"cache": cache, "x": x}, donate={"cache"})
    with pytest.raises(InvalidValueError, match="its memory is also that of"):
        executor.run({"cache": NPUBuffer.from_dlpack(cache), "x": cache}, donate={"cache"})


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()


def test_compiled_modules():
    model = small_model().to(GPU)
    x = torch.randn(2, 3, 8, 8, device=GPU)
    compiled = npu.compile(model, (x,))
    assert compiled.executor.device.kind == "cuda"
    expected = model(x)
    result = compiled(x)
    assert result.device == x.device
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    for _ in range(3):
        x = torch.randn_like(x)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-4)
    on_host = compiled(x.cpu())
    assert on_host.device.type == "cpu"
    torch.testing.assert_close(on_host, compiled(x).cpu())


def test_compiled_modules_with_state():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.zeros(4))

        def forward(self, x):
            self.total += x
            return self.total * 1

    x = torch.ones(4, device=GPU)
    compiled = npu.compile(Counter().to(GPU), (x,))
    assert [compiled(x).tolist() for _ in range(3)] == [[1.0] * 4, [2.0] * 4, [3.0] * 4]
    compiled.reset()
    assert compiled(x).tolist() == [1.0] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights(dtype):
    model = small_model().to(GPU, dtype)
    x = torch.randn(2, 3, 8, 8, device=GPU, dtype=dtype)
    program = npu_compiler.compile(torch_ir.extract_ir(small_model().to(dtype), (x.cpu(),)))
    executor = Executor(program, Device("cuda"))
    for source in (model, model.state_dict()):
        weights = load_weights(source, program, executor.device)
        result = only(executor.run({program.input_specs[0].name: x}, weights))
        tolerance = 1e-4 if dtype == torch.float32 else 5e-2
        torch.testing.assert_close(result, model(x), rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        before = result.clone()
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(only(executor.run({program.input_specs[0].name: x}, weights)), before)


def test_partitioned_models():
    class Mixed(nn.Module):
        def forward(self, x):
            y = (x * 2).relu()
            values, _ = torch.linalg.eigh(y @ y.t())
            return values + 1

    x = torch.randn(6, 6)
    plan = npu_compiler.partition(torch_ir.extract_ir(Mixed(), (x,)))
    dag = DAGExecutor(plan, CUDABackend())
    dag.load_weights({})
    (result,) = dag.execute({"x": x.to(GPU)}).values()
    torch.testing.assert_close(torch.from_numpy(np.asarray(result)), Mixed()(x), rtol=1e-4, atol=1e-4)


def test_tensors_elsewhere(affine):
    on_cpu = executor_of(Affine(), torch.zeros(1000), device="cpu")
    with pytest.raises(InvalidValueError, match=r"got cuda:0; expected cpu; try \.cpu\(\)"):
        on_cpu.run({"x": torch.zeros(1000, device=GPU)})
    if torch.cuda.device_count() < 2:
        pytest.skip("there is only one GPU")
    with pytest.raises(InvalidValueError, match="got cuda:1; expected cuda:0"):
        affine.run({"x": torch.zeros(1000, device="cuda:1")})
    there = executor_of(Affine(), torch.zeros(1000), device="cuda:1")
    result = only(there.run({"x": torch.ones(1000, device="cuda:1")}))
    assert result.device == torch.device("cuda:1")
    assert result.tolist() == [4.0] * 1000


def test_threads_with_streams_of_their_own(affine):
    failures = []

    def work(value):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            x = torch.empty(1000, device=GPU)
            for i in range(50):
                x.fill_(value + i)
                result = only(affine.run({"x": x}))
                if not bool((result == 3.0 * (value + i) + 1).all()):
                    failures.append((value, i))

    threads = [threading.Thread(target=work, args=(1000.0 * t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_many_runs_need_no_more_memory(affine):
    x, host = torch.ones(1000, device=GPU), np.ones(1000, np.float32)

    def runs(count):
        for _ in range(count):
            only(affine.run({"x": x}))
            affine.run({"x": host})
        torch.cuda.synchronize()
        gc.collect()
        return torch.cuda.mem_get_info()[0]

    runs(50)
    before = runs(50)
    assert before - runs(2000) < 1 << 20


def test_out_of_memory():
    free, _ = torch.cuda.mem_get_info()
    before = NPUBuffer.zeros([1024], Device("cuda"))
    with pytest.raises(UnavailableError, match=r"not enough memory on the GPU .* a request for .* are free"):
        NPUBuffer.zeros([free // 2, 4], Device("cuda"))
    assert not before.to_numpy().any()
    assert NPUBuffer.zeros([1024], Device("cuda")).to_numpy().sum() == 0
