"""Memory that the host does not reach, as that of a discrete GPU: emulated Metal behind addresses that fault.

The device is opened once in a process, and reading such memory directly ends the process: each scenario has its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import npu
import numpy as np
import pytest
import torch
from npu_compiler import compile, partition
from npu_runtime import DAGExecutor, Device, Executor, MetalBackend, NPUBuffer, Session, load_weights
from torch import Tensor, nn
from torch_ir import extract_ir

from tests.support.devices import metal_device

SCENARIOS: dict[str, Callable[[Device], None]] = {}


def scenario(function: Callable[[Device], None]) -> Callable[[Device], None]:
    SCENARIOS[function.__name__] = function
    return function


@scenario
def buffers(device: Device) -> None:
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    buffer = NPUBuffer.from_numpy(data, device)
    array = buffer.to_numpy()
    assert (array == data).all()
    array[:] = 0  # a copy
    assert (buffer.to_numpy(dtype="int32") == data.astype("int32")).all() and (np.asarray(buffer) == data).all()
    assert (buffer[1] == data[1]).all()
    with pytest.raises(BufferError, match=r"the host cannot reach this memory of a device; use to_numpy\(\)"):
        memoryview(buffer)
    buffer.write_from_numpy(2 * data)
    assert torch.equal(torch.from_dlpack(buffer), torch.from_numpy(2 * data))
    with pytest.raises(BufferError, match="allow a copy"):
        buffer.__dlpack__(copy=False)
    assert (NPUBuffer.zeros([3], device, "bfloat16").to_numpy().astype("float32") == 0).all()
    assert NPUBuffer.zeros([0, 3], device).to_numpy().shape == (0, 3)
    assert (NPUBuffer.from_numpy(buffer, Device("cpu")).to_numpy() == 2 * data).all()
    other = NPUBuffer.from_numpy(buffer, device)
    buffer.write_from_numpy(data)
    assert (other.to_numpy() == 2 * data).all()


class Images(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@scenario
def weights_of_two_programs(device: Device) -> None:
    model = Images().eval()
    own = {k: NPUBuffer.from_numpy(v, device) for k, v in model.state_dict().items() if v.is_floating_point()}
    for given in (model.state_dict(), own):
        shared = None
        for batch in (1, 3):
            x = torch.randn(batch, 3, 8, 8)
            program = compile(extract_ir(model, (x,)))
            shared = shared or load_weights(given, program, device)
            outputs = Executor(program, device).run({program.input_specs[0].name: x}, shared)
            got = torch.from_dlpack(outputs[program.output_specs[0].name])
            torch.testing.assert_close(got, model(x).detach())


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.full((4,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        self.total.add_(x)
        return self.total * 2


@scenario
def states(device: Device) -> None:
    model = Counter()
    program = compile(extract_ir(model, (torch.ones(4),)))
    executor = Executor(program, device)
    weights = load_weights({"total": torch.full((4,), 2.0)}, program, device)
    session, second = executor.session(), executor.session()

    def result(of: Session) -> float:
        outputs = of.run({"x": torch.ones(4)}, weights)
        assert (outputs["total"].to_numpy() * 2 == outputs["mul"].to_numpy()).all()
        return float(outputs["mul"].to_numpy()[0])

    assert [result(session), result(session)] == [6.0, 8.0]
    second.share_state(session)
    assert result(second) == 10.0
    session.set_state("total", np.zeros(4, np.float32))
    assert result(session) == 2.0
    session.reset()
    assert result(session) == 6.0


@scenario
def donation(device: Device) -> None:
    class Update(nn.Module):
        def forward(self, cache: Tensor, x: Tensor) -> Tensor:
            return cache.index_copy_(0, torch.tensor([1]), x)

    compiled = compile(extract_ir(Update(), (torch.zeros(3, 4), torch.ones(1, 4))))
    executor = Executor(compiled, device)
    names = [spec.name for spec in compiled.input_specs]
    cache = NPUBuffer.zeros([3, 4], device)
    fed = dict(zip(names, (cache, torch.ones(1, 4)), strict=True))
    outputs = executor.run(fed, donate=[names[0]])
    assert cache.donated
    assert all((o.to_numpy() == [[0] * 4, [1] * 4, [0] * 4]).all() for o in outputs.values())


@scenario
def host_parts(device: Device) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.first(x)
            y = torch.linalg.inv(x) + x  # the host's, as is the update
            y[0] = 1
            return self.second(y) + x, x

    model, x = Mixed().eval(), torch.eye(6) + 0.1 * torch.randn(6, 6)
    dag = DAGExecutor(partition(extract_ir(model, (x,))), MetalBackend())
    dag.load_weights(model.state_dict())
    outputs = list(dag.execute({"x": x}).values())
    for got, wanted in zip(outputs, model(x), strict=True):
        torch.testing.assert_close(torch.as_tensor(np.asarray(got)), wanted.detach())


@scenario
def compiled_modules(device: Device) -> None:
    model, x = Images().eval().bfloat16(), torch.randn(2, 3, 8, 8).bfloat16()
    compiled = npu.compile(model, (x,), device=device)
    torch.testing.assert_close(compiled(x), model(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("checked", ["0", "1"], ids=["", "checked plan"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_far_memory(name: str, checked: str) -> None:
    if metal_device().name == Device().name:
        pytest.skip("these are of the emulated device")
    variables = {"NPU_EMULATE_METAL": "1", "NPU_FAR_MEMORY": "1", "NPU_CHECK_PLAN": checked}
    command = [sys.executable, "-m", "tests.npu_runtime.test_far_memory", name]
    done = subprocess.run(command, env={**os.environ, **variables}, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    torch.manual_seed(0)
    with torch.no_grad():
        SCENARIOS[sys.argv[1]](Device("metal"))
