"""The way from a ResNet to results, step by step as a user goes it: through files, from other formats, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import npu_compiler
import numpy as np
import pytest
import torch
from npu_runtime import DAGExecutor, Executor, NPUBuffer, Profiler, load_weights
from npu_runtime.profiler import Profiler as ProfilerOfModule
from torch_ir import extract_ir

from tests.models.zoo.image_models import build
from tests.support import numbers
from tests.support.devices import backend_of, chosen_device, device_of


@pytest.fixture(scope="module")
def resnet() -> Any:
    return build("resnet18")


@pytest.fixture(scope="module")
def files(resnet: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The IR of a model with its weights and a bare tensor, the program made of it, the weights beside them."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("resnet")
    extract_ir(resnet, image(), model_name="resnet18").save(str(folder / "resnet18_ir.json"))
    program = npu_compiler.compile(str(folder / "resnet18_ir.json"))
    program.save(str(folder / "resnet18.npubin"))
    save_file(resnet.state_dict(), folder / "resnet18.safetensors")
    torch.save(resnet.state_dict(), folder / "resnet18.pt")
    return folder


def image(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def check(model: Any, got: Any, x: torch.Tensor) -> None:
    import copy

    numbers.check(got, copy.deepcopy(model).double()(x.double()), model(x), "logits")


@pytest.mark.parametrize("kind", ["chosen", pytest.param("metal", marks=pytest.mark.slow)])
def test_buffers_in_buffers_out(resnet: Any, files: Path, kind: str) -> None:
    device = device_of(kind)
    program = npu_compiler.CompiledProgram.load(str(files / "resnet18.npubin"))
    executor = Executor(program, device)
    weights = load_weights(str(files / "resnet18.safetensors"), program, device)
    spec_in, spec_out = program.input_specs[0], program.output_specs[0]
    buffer = NPUBuffer.from_numpy(image().numpy(), device, spec=spec_in)
    outputs = executor.run(inputs={spec_in.name: buffer}, weights=weights)
    check(resnet, outputs[spec_out.name].to_numpy(spec=spec_out), image())


@pytest.mark.parametrize("source", ["resnet18.safetensors", "resnet18.pt", "dict"])
def test_weights_of_any_kind(resnet: Any, files: Path, source: str) -> None:
    device = chosen_device()
    program = npu_compiler.compile(files / "resnet18_ir.json")
    weights = load_weights(resnet.state_dict() if source == "dict" else files / source, program, device)
    outputs = Executor(program, device).run({program.input_specs[0].name: image()}, weights)
    check(resnet, next(iter(outputs.values())).to_numpy(), image())


def test_every_form_of_the_ir_compiles_alike(files: Path) -> None:
    import torchvision
    from torch_ir import IR

    path = files / "resnet18_ir.json"
    with torch.device("meta"):
        meta = torchvision.models.resnet18().eval()
    without_weights = extract_ir(meta, (torch.randn(1, 3, 64, 64, device="meta"),), model_name="resnet18")
    forms = [path, str(path), IR.load(path), json.loads(path.read_text()), without_weights]
    made = {npu_compiler.compile(form).text() for form in forms}
    assert made == {npu_compiler.compile_ir(path).text()}
    assert len({npu_compiler.compile(form).to_bytes() for form in forms[:4]}) == 1


def test_profiling(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = chosen_device()
    program = npu_compiler.CompiledProgram.load(files / "resnet18.npubin")
    weights = load_weights(files / "resnet18.safetensors", program, device)
    profiler = ProfilerOfModule(Executor(program, device))
    outputs = profiler.run(inputs={program.input_specs[0].name: image()}, weights=weights)
    assert len(outputs) == 1
    profiler.print_summary()
    assert "conv[" in capsys.readouterr().out
    assert Profiler is ProfilerOfModule


@pytest.mark.parametrize("kind", ["chosen", "metal"])
def test_support_and_partitions(resnet: Any, files: Path, kind: str) -> None:
    ir = json.loads((files / "resnet18_ir.json").read_text())
    assert npu_compiler.is_op_supported("aten.conv2d.default")
    assert not npu_compiler.is_op_supported("aten.linalg_solve.default")
    plan = npu_compiler.partition(ir, lambda op, attrs: "pool" not in op)
    dag = DAGExecutor(plan, backend_of(kind))
    dag.load_weights({k: v.numpy() for k, v in resnet.state_dict().items()})
    outputs = dag.execute({ir["graph_inputs"][0]["name"]: image().numpy()})
    check(resnet, outputs[ir["graph_outputs"][0]["name"]], image())


def test_one_executor_for_many_images(resnet: Any, files: Path) -> None:
    device = chosen_device()
    program = npu_compiler.CompiledProgram.load(files / "resnet18.npubin")
    weights = load_weights(files / "resnet18.safetensors", program, device)
    executor, name = Executor(program, device), program.input_specs[0].name
    found = [next(iter(executor.run({name: image(i)}, weights).values())) for i in range(10)]
    for i, buffer in enumerate(found):
        got = buffer.to_numpy()
        assert np.array_equal(np.argsort(got[0])[-5:], torch.argsort(resnet(image(i))[0])[-5:].numpy())
