"""Tensors of a GPU that go in and out without a copy; run by test_lent_tensors.py over the stand-in."""

from __future__ import annotations

import ctypes
import gc
import threading

import ml_dtypes
import npu_compiler
import numpy as np
import pytest
import torch
import torch_ir
from npu_runtime import CUDABackend, DAGExecutor, Device, Executor, NPUBuffer, load_weights
from npu_runtime._core import TensorCall
from npu_runtime.errors import InvalidValueError
from torch import nn

from tests.cuda.lent_tensor import Gpu, LentTensor, address_in, give_back
from tests.cuda.stand_in import StandIn


class Double(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x


class Mixed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, _ = torch.linalg.eigh(torch.relu(x * 2))
        return values + 1


class Cache(nn.Module):
    def forward(self, cache: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        cache.add_(x)
        return cache.sum()


def program_of(model: nn.Module, *inputs: torch.Tensor) -> npu_compiler.CompiledProgram:
    return npu_compiler.compile(torch_ir.extract_ir(model.eval(), inputs))


# Compiled once, before the cases fork.
DOUBLE, NORM = program_of(Double(), torch.zeros(64)), program_of(nn.LayerNorm(64), torch.zeros(2, 64))
DOUBLE_OUTPUTS = [spec.name for spec in DOUBLE.output_specs]
DOUBLE_HALF = program_of(Double(), torch.zeros(64, dtype=torch.bfloat16))
MIXED = npu_compiler.partition(torch_ir.extract_ir(Mixed(), (torch.zeros(8, 8),)))
CACHE = program_of(Cache(), torch.zeros(64), torch.zeros(64))


def executor_of(program: npu_compiler.CompiledProgram = DOUBLE, device: str = "cuda") -> Executor:
    return Executor(program, Device(device))


def numbers(n: int = 64) -> np.ndarray:
    return np.arange(n, dtype=np.float32)


def borrows_and_orders() -> None:
    machine = StandIn()
    gpu = Gpu(machine)
    data = numbers()
    lent = gpu.tensor(data)
    buffer = NPUBuffer.from_dlpack(lent)
    assert (lent.loans, buffer.native_handle) == (1, lent.address.value)
    assert buffer.__dlpack_device__() == (2, 0)
    assert lent.streams[0] != 0
    np.testing.assert_array_equal(buffer.to_numpy(), data)
    assert machine.findings() == ""
    buffer.write_from_numpy(data + 1)  # done when it returns: the lender does not know of our stream
    np.testing.assert_array_equal(buffer.to_numpy(), data + 1)
    copied = machine.count("copies")
    executor = executor_of()
    output = executor.run({"x": lent})
    assert machine.count("copies") == copied, "an input that is on the GPU was copied"
    assert lent.loans == 2 - 1, "the run has given its loan back"
    assert machine.findings() == ""
    del buffer, output
    gc.collect()
    assert lent.loans == 0
    lent.free()
    assert machine.findings() == ""


def sees_a_lender_that_does_not_order() -> None:
    machine = StandIn()
    lent = Gpu(machine).tensor(numbers(), orders=False)
    NPUBuffer.from_dlpack(lent).to_numpy()
    assert "may still use: a copy to the GPU" in machine.findings()


def lends_its_own_memory() -> None:
    machine = StandIn()
    gpu = Gpu(machine)
    buffer = NPUBuffer.from_numpy(numbers(), Device("cuda"))
    address = buffer.native_handle
    capsule = buffer.__dlpack__(stream=1)
    assert address_in(capsule) == address
    capsule_too = buffer.__dlpack__(dl_device=(2, 0), copy=False)
    assert address_in(capsule_too) == address
    give_back(capsule_too)
    del buffer
    gc.collect()
    # The tensor outlives the buffer, and what it has was written before it was lent.
    gpu.call("cuMemsetD8Async", ctypes.c_uint64(address), 0, ctypes.c_size_t(256), gpu.stream)
    gpu.call("cuStreamSynchronize", gpu.stream)
    give_back(capsule)
    del capsule
    gc.collect()
    assert machine.findings() == ""
    assert "256 bytes" not in machine.leaks()

    other = NPUBuffer.from_numpy(numbers(), Device("cuda"))
    copy = other.__dlpack__(copy=True)
    assert address_in(copy) != other.native_handle
    give_back(copy)
    protected = other.read_only().__dlpack__()
    assert address_in(protected) != other.native_handle
    give_back(protected)
    np.testing.assert_array_equal(np.from_dlpack(other, device="cpu"), numbers())
    for options, words in (({"dl_device": (2, 1)}, "got"), ({"dl_device": (1, 0), "copy": False}, "allow a copy")):
        with pytest.raises(BufferError, match=words):
            other.__dlpack__(**options)
    with pytest.raises(BufferError, match="cannot reach"):
        memoryview(other)
    given = NPUBuffer.from_dlpack(other)
    assert given.native_handle == other.native_handle


def takes_what_programs_take() -> None:
    machine = StandIn()
    gpu = Gpu(machine)
    executor = executor_of()
    with pytest.raises(InvalidValueError, match="not contiguous"):
        executor.run({"x": gpu.tensor(numbers(128)[:64], strides=[2])})
    with pytest.raises(InvalidValueError, match="does not fit the program"):
        executor.run({"x": gpu.tensor(numbers(32))})
    before = machine.count("copies")
    executor.run({"x": gpu.tensor(numbers(), offset=4)})  # not as kernels need it: copied on the GPU
    assert machine.count("copies") - before == 2  # the test's own, and that
    empty = gpu.tensor(numbers())
    empty.address = ctypes.c_uint64(0)
    with pytest.raises(InvalidValueError, match="'x' has no values in memory"):
        executor.run({"x": empty})
    half = executor_of(DOUBLE_HALF)
    bits = numbers().astype(ml_dtypes.bfloat16)
    lent = gpu.tensor(bits.view(np.uint16), bfloat16=True)
    half.run({"x": lent})
    np.testing.assert_array_equal(NPUBuffer.from_dlpack(lent).to_numpy(), bits)
    assert NPUBuffer.from_numpy(lent, Device("cpu")).to_numpy().tobytes() == bits.tobytes()
    assert machine.findings() == ""


class Torchlike(LentTensor):
    """Says what PyTorch's tensors say too."""

    is_cuda, requires_grad, calls = True, True, 0

    def detach(self) -> LentTensor:
        type(self).calls += 1
        self.requires_grad = False
        return self

    def contiguous(self) -> LentTensor:
        return self.gpu.tensor(numbers())


def asks_tensors_of_pytorch() -> None:
    machine = StandIn()
    executor = executor_of()
    tensor = Torchlike(Gpu(machine), numbers(128)[:64], strides=[2])
    executor.run({"x": tensor})
    assert tensor.calls == 1
    assert machine.findings() == ""


class Refusing(Torchlike):
    def __dlpack__(self, *, stream: int) -> object:
        raise BufferError("cannot export this")


def says_what_a_lender_says() -> None:
    tensor = Refusing(Gpu(StandIn()), numbers())
    with pytest.raises(InvalidValueError, match="'x' cannot be lent by its library; got cannot export this; expected"):
        executor_of().run({"x": tensor})


def goes_into_partitioned_models() -> None:
    machine = StandIn()
    lent = Gpu(machine).tensor(numbers().reshape(8, 8))
    dag = DAGExecutor(MIXED, CUDABackend())
    dag.load_weights({})
    (result,) = dag.execute({"x": lent}).values()
    assert result.shape == (8,)
    assert "x" not in dag.copied
    assert len(lent.streams) == 1
    with pytest.raises(InvalidValueError, match="got cuda:1; expected cuda:0"):
        dag.execute({"x": Gpu(machine, 1).tensor(numbers().reshape(8, 8))})
    assert machine.findings() == ""


def serves_threads() -> None:
    """Each with a stream of its own; what one queues comes before its own runs, and is there when it reads."""
    machine = StandIn()
    executor, failures = executor_of(), list[str]()

    def work(value: int) -> None:
        gpu = Gpu(machine)
        for i in range(100):
            data = numbers() + 1000 * value + i
            lent = gpu.tensor(data)
            executor.run({"x": lent})
            executor.run({"x": data})
            buffer = NPUBuffer.from_numpy(data, executor.device)
            if not (np.array_equal(buffer.to_numpy(), data) and np.array_equal(from_lent(lent), data)):
                failures.append(f"{value}, {i}")
            lent.free()

    def from_lent(lent: LentTensor) -> np.ndarray:
        return NPUBuffer.from_dlpack(lent).to_numpy()

    threads = [threading.Thread(target=work, args=(t,)) for t in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert machine.findings() == ""


def names_both_devices() -> None:
    machine = StandIn()
    second = Gpu(machine, 1)
    executor = executor_of()
    with pytest.raises(InvalidValueError, match=r"'x' is on another .*; got cuda:1; expected cuda:0 or the CPU; try "):
        executor.run({"x": second.tensor(numbers())})
    on_cpu = executor_of(device="cpu")
    with pytest.raises(InvalidValueError, match=r"got cuda:1; expected cpu; try \.cpu\(\)"):
        on_cpu.run({"x": second.tensor(numbers())})
    there = executor_of(device="cuda:1")
    there.run({"x": second.tensor(numbers())})
    buffer = NPUBuffer.from_dlpack(second.tensor(numbers()))
    assert buffer.__dlpack_device__() == (2, 1)
    assert address_in(buffer.__dlpack__(), 1) == buffer.native_handle
    executor.run({"x": buffer})  # a buffer is copied, as from the host
    assert machine.findings() == ""


def donates_a_tensor() -> None:
    machine = StandIn()
    gpu = Gpu(machine)
    executor = executor_of(CACHE)
    lent, x = gpu.tensor(numbers()), gpu.tensor(numbers())
    with pytest.raises(InvalidValueError, match="from_dlpack"):
        executor.run({"cache": lent, "x": x}, donate={"cache"})
    cache = NPUBuffer.from_dlpack(lent)
    copies = machine.count("copies")
    for _ in range(5):
        outputs = executor.run({"cache": cache, "x": x}, donate={"cache"})
        assert cache.donated
        cache = next(b for b in outputs.values() if b.shape == (64,))
        assert cache.native_handle == lent.address.value
    assert machine.count("copies") == copies
    with pytest.raises(InvalidValueError, match="its memory is also that of"):
        executor.run({"cache": NPUBuffer.from_dlpack(lent), "x": lent}, donate={"cache"})
    assert machine.findings() == ""


def answers_the_host_with_its_tensors() -> None:
    machine = StandIn()
    call = TensorCall(executor_of(), ["x"], DOUBLE_OUTPUTS, torch.Tensor)
    results = [call.run((torch.from_numpy(numbers()),)) for _ in range(3)]
    for (result,) in filter(None, results):
        assert (result.device.type, result.shape) == ("cpu", (64,))
        result.add_(1)  # memory of its own
    assert None not in results
    assert len({result.data_ptr() for (result,) in filter(None, results)}) == len(results)
    assert machine.findings() == ""


def loads_weights() -> None:
    machine = StandIn()
    gpu = Gpu(machine)
    executor = executor_of(NORM)
    lent = {name: gpu.tensor(numbers() + i) for i, name in enumerate(("weight", "bias"))}
    weights = load_weights(lent, executor.program, executor.device)
    for i, name in enumerate(lent):
        assert weights[name].__dlpack_device__() == (2, 0)
        assert weights[name].native_handle != lent[name].address.value, "a copy: the module may train on"
        np.testing.assert_array_equal(weights[name].to_numpy(), numbers() + i)
        assert lent[name].loans == 0
    executor.prepare(weights)
    executor.run({"input": np.zeros((2, 64), np.float32)}, weights)
    assert machine.findings() == ""
