"""What goes wrong on machines, and that the process goes on; run by test_bad_luck.py over the stand-in."""

from __future__ import annotations

import gc
import os
import re
from contextlib import AbstractContextManager
from typing import Any

import npu_compiler
import numpy as np
import pytest
import torch
import torch_ir
from npu_runtime import Device, Executor, NPUBuffer, devices, load_weights
from npu_runtime.errors import InternalError, NPUError, UnavailableError
from torch import nn

from tests.cuda.stand_in import StandIn

X = np.ones((4, 256), np.float32)


MODELS = {
    "layers": nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 8)).eval(),
    "softmax": nn.Softmax(-1),
    "10 MiB": nn.Sequential(*(nn.Linear(256, 256) for _ in range(40))).eval(),
}
# Compiled once, before the cases fork.
PROGRAMS = {
    name: npu_compiler.compile(torch_ir.extract_ir(model, (torch.zeros(4, 256),))) for name, model in MODELS.items()
}


def executor_of(device: str = "cuda", model: str = "layers") -> tuple[Executor, Any]:
    executor = Executor(PROGRAMS[model], Device(device))
    return executor, load_weights(MODELS[model], PROGRAMS[model], executor.device)


def run(executor: Executor, weights: Any) -> list[np.ndarray]:
    return [output.to_numpy() for output in executor.run(X, weights).values()]


def says(error: type[NPUError], *words: str) -> AbstractContextManager[object]:
    """In this order."""
    return pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, words)))


def goes_on() -> None:
    assert run(*executor_of("cpu"))[0].shape == (4, 8)


def unavailable() -> None:
    """The environment says why, and what the message must have."""
    expected = os.environ["EXPECTED"]
    with says(UnavailableError, expected):
        executor_of()
    (info,) = (d for d in devices() if d.kind == "cuda")
    assert not info.available
    assert expected in info.reason
    assert Device().kind == "cpu"
    goes_on()


def no_such_gpu() -> None:
    with says(UnavailableError, "there is no GPU 5", "from 0 to 1"):
        Device("cuda:5")
    assert Device("cuda:1").kind == "cuda:1"


def kernel_does_not_compile() -> None:
    machine = StandIn()
    machine.set("refuse_kernel", "softmax")
    with says(InternalError, 'the kernel "softmax', "does not compile", "error: the stand-in was told to refuse"):
        executor_of(model="softmax")
    run(*executor_of())
    machine.set("refuse_kernel", "")
    run(*executor_of(model="softmax"))
    assert machine.findings() == ""


def launch_is_refused() -> None:
    machine = StandIn()
    executor, weights = executor_of()
    run(executor, weights)
    machine.set("refuse_launch", 2)
    with says(InternalError, "launching ", "groups of", "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"):
        run(executor, weights)
    run(executor, weights)
    assert machine.findings() == ""


def launch_faults() -> None:
    machine = StandIn()
    executor, weights = executor_of()
    run(executor, weights)
    machine.set("fault_at_launch", 2)
    named = os.environ.get("CUDA_LAUNCH_BLOCKING") == "1"
    words = ("launching matmul_", "groups of") if named else ("the GPU failed to run", "CUDA_ERROR_ILLEGAL_ADDRESS")
    words = (*words, "CUDA_ERROR_ILLEGAL_ADDRESS" if named else "CUDA_LAUNCH_BLOCKING=1")
    with says(InternalError, *words):
        run(executor, weights)
    for _ in range(2):
        with says(
            UnavailableError, "the GPU cannot be used any more in this process", words[0], "starting the process"
        ):
            run(executor, weights)
    with says(UnavailableError, "cannot be used any more"):
        NPUBuffer.zeros([4], Device("cuda"))
    goes_on()
    del executor, weights
    gc.collect()
    assert machine.findings() == ""


def memory_runs_out_while_loading() -> None:
    machine = StandIn()
    small = executor_of()
    run(*small)
    before = machine.count("used")
    large = executor_of(model="10 MiB")
    planned = machine.count("used")
    machine.set("memory", planned + (5 << 20))
    for _ in range(2):
        with says(
            UnavailableError,
            "not enough memory on the GPU Stand-in 0",
            "got a request for ",
            "KiB; buffers of this process",
        ):
            large[0].prepare(large[1])
        assert machine.count("used") == planned, "what the failed load had uploaded is still there"
        run(*small)
    with says(UnavailableError, "not enough memory"):
        run(*large)
    machine.set("memory", 1 << 30)
    run(*large)
    del large
    gc.collect()
    assert machine.count("used") == before
    assert machine.findings() == ""


def runs_allocate_nothing() -> None:  # without what is compiled on the side; see cuda_recordings for that
    machine = StandIn()
    executor, weights = executor_of()
    for _ in range(20):
        run(executor, weights)
    names = ("allocations", "host_allocations", "streams", "events", "modules", "live", "live_host")
    before, waits = {name: machine.count(name) for name in names}, machine.count("synchronizes")
    for _ in range(10_000):
        run(executor, weights)
    assert {name: machine.count(name) for name in names} == before
    assert machine.count("synchronizes") - waits == 2 * 10_000
    assert machine.findings() == ""


def child_is_refused() -> None:
    machine = StandIn()
    executor, weights = executor_of()
    buffer = NPUBuffer.from_numpy(X, Device("cuda"))
    run(executor, weights)
    session = executor.session()
    for _ in range(2):  # the second time as a graph
        session.run(X, weights)
    child = os.fork()
    if child == 0:
        try:
            for use in (
                lambda: run(executor, weights),
                lambda: session.run(X, weights),
                session.settle,
                buffer.to_numpy,
                lambda: NPUBuffer.zeros([4], Device("cuda")),
            ):
                with says(UnavailableError, "a forked process cannot use the GPU of its parent", "spawn"):
                    use()
            calls = machine.count("frees")
            del executor, weights, buffer, session, use
            gc.collect()
            os._exit(0 if machine.count("frees") == calls else 2)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    run(executor, weights)
    np.testing.assert_array_equal(buffer.to_numpy(), X)
    assert machine.findings() == ""
