"""Kernels for NVIDIA's tensor cores: on such a GPU, beside those of metal/ that they stand for; elsewhere emulated."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from npu_compiler import compile
from npu_runtime import Device, Executor, Profiler, load_weights
from torch_ir import extract_ir

from tests.ops.making import Case
from tests.ops.test_execution import run_case
from tests.support.devices import chosen_device

from .tensor_cases import CASES, infinities

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
EMULATED = os.environ.get("SOFTMETAL_TENSOR_CORES") == "1"
HAS_CORES = EMULATED or chosen_device().kind == "cuda"
SHORT = 4  # emulated, every so manyth in the default tier


def device() -> Device:
    return Device("metal:emulated") if EMULATED else chosen_device()


if HAS_CORES:

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
    def test_tensor_cores(case: Case, dtype: str) -> None:
        run_case(case, DTYPES[dtype], device=device())

    def test_they_are_used() -> None:
        kernels = set()
        for case in CASES[:: 3 if EMULATED else 1]:
            kernels |= {name.split("[")[-1] for name in _kernels(case, torch.float16) if "tensor" in name}
        assert kernels == {"tensor blocks]", "tensor blocks, split]", "tensor blocks, halves]", "tensor tiles]"}

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_infinities_and_nan(dtype: str) -> None:
        (case,) = infinities()
        model, inputs = case.build(), tuple(x.to(DTYPES[dtype]) for x in case.make())
        program = compile(extract_ir(model, inputs))
        outputs = Executor(program, device()).run(dict(zip([s.name for s in program.input_specs], inputs, strict=True)))
        got = torch.from_numpy(outputs[program.output_specs[0].name].to_numpy().astype("float64"))
        wanted = model(*(x.double() for x in inputs))
        assert torch.equal(got.isnan(), wanted.isnan())
        assert torch.equal(got.isposinf(), wanted.isposinf())
        assert torch.equal(got.isneginf(), wanted.isneginf())

else:

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_emulated(dtype: str) -> None:
        """What an emulated GPU with such cores computes, in a process of its own: devices are opened once."""
        environment = {**os.environ, "SOFTMETAL_TENSOR_CORES": "1", "SOFTMETAL_MODE": "fast"}
        tests = [f"{__file__}::test_tensor_cores[{c.name}-{dtype}]" for c in CASES[list(DTYPES).index(dtype) :: SHORT]]
        tests += [f"{__file__}::test_infinities_and_nan[{dtype}]"]
        tests += [f"{__file__}::test_they_are_used"] if dtype == "float16" else []
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
        done = subprocess.run(command, env=environment, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout[-3000:]
        assert f"{len(tests)} passed" in done.stdout, done.stdout[-500:]


def _kernels(case: Case, dtype: torch.dtype) -> list[str]:
    model = case.build().to(dtype)
    inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in case.make())
    program = compile(extract_ir(model, inputs))
    profiler = Profiler(Executor(program, device()))
    profiler.run(
        dict(zip([s.name for s in program.input_specs], inputs, strict=True)),
        load_weights(case.stored(model), program, device()),
    )
    return [time.kernel for time in profiler.times()]
