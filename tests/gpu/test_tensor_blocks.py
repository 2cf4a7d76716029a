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

from .tensor_cases import CASES, GROUPS, INFINITIES, STREAMS

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
EMULATED = os.environ.get("SOFTMETAL_TENSOR_CORES") in ("1", "2")
HOPPER = os.environ.get("SOFTMETAL_TENSOR_CORES") == "2"
HAS_CORES = EMULATED or chosen_device().kind == "cuda"
SHORT = 4  # emulated, every so manyth in the default tier


def device() -> Device:
    return Device("metal:emulated") if EMULATED else chosen_device()


if HAS_CORES:

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
    def test_tensor_cores(case: Case, dtype: str) -> None:
        run_case(case, DTYPES[dtype], device=device())

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("case", STREAMS, ids=[c.name for c in STREAMS])
    def test_streams(case: Case, dtype: str) -> None:
        run_case(case, DTYPES[dtype], device=device(), settle=not EMULATED)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("case", GROUPS, ids=[c.name for c in GROUPS])
    def test_groups(case: Case, dtype: str) -> None:
        run_case(case, DTYPES[dtype], device=device(), settle=not EMULATED)

    @pytest.mark.skipif(not HOPPER, reason="a GPU may be older than Hopper")
    def test_groups_are_used() -> None:
        kernels = {kernel for case in GROUPS for kernel in _kernels(case, torch.float16) if "groups" in kernel}
        forms = {"groups]", "groups, split]", "groups, halves]"}
        assert kernels == {"conv[tensor groups]", *(f"matmul[tensor {form}" for form in forms)}

    @pytest.mark.skipif(not EMULATED, reason="a GPU may be older than Hopper")
    def test_streams_are_used() -> None:
        kernels = {kernel for case in STREAMS for kernel in _kernels(case, torch.float16) if "stream" in kernel}
        forms = {"matmul[stream]", "matmul[stream, halves]"}
        assert kernels == forms | {f"norm[rms] + {form}" for form in forms}

    def test_they_are_used() -> None:
        kernels = set()
        for case in CASES[:: 3 if EMULATED else 1]:
            kernels |= {name.split("[")[-1] for name in _kernels(case, torch.float16) if "tensor" in name}
        blocks = {name.replace("groups", "blocks") for name in kernels}
        assert blocks == {"tensor blocks]", "tensor blocks, split]", "tensor blocks, halves]", "tensor tiles]"}

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("case", INFINITIES, ids=[c.name for c in INFINITIES])
    def test_infinities_and_nan(case: Case, dtype: str) -> None:
        model, inputs = case.build().to(DTYPES[dtype]), tuple(x.to(DTYPES[dtype]) for x in case.make())
        program = compile(extract_ir(model, inputs))
        given = dict(zip([s.name for s in program.input_specs], inputs, strict=True))
        outputs = Executor(program, device()).run(given, load_weights(model.state_dict(), program, device()))
        got = torch.from_numpy(outputs[program.output_specs[0].name].to_numpy().astype("float64"))
        wanted = model.double()(*(x.double() for x in inputs))
        assert torch.equal(got.isnan(), wanted.isnan())
        assert torch.equal(got.isposinf(), wanted.isposinf())
        assert torch.equal(got.isneginf(), wanted.isneginf())

else:

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_emulated(dtype: str) -> None:
        """What an emulated GPU with such cores computes, in a process of its own: devices are opened once."""
        tests = [f"test_tensor_cores[{c.name}-{dtype}]" for c in CASES[list(DTYPES).index(dtype) :: SHORT]]
        tests += [f"test_streams[{c.name}-{dtype}]" for c in STREAMS]
        tests += [f"test_infinities_and_nan[{c.name}-{dtype}]" for c in INFINITIES]
        if dtype == "float16":
            tests += ["test_they_are_used", "test_streams_are_used"]
        _run("1", tests)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_emulated_hopper(dtype: str) -> None:
        tests = [f"test_groups[{c.name}-{dtype}]" for c in GROUPS]
        tests += [f"test_tensor_cores[{c.name}-{dtype}]" for c in CASES[list(DTYPES).index(dtype) :: 2 * SHORT]]
        tests += [f"test_infinities_and_nan[{c.name}-{dtype}]" for c in INFINITIES]
        _run("2", tests + (["test_groups_are_used"] if dtype == "float16" else []))


def _run(cores: str, tests: list[str]) -> None:
    environment = {**os.environ, "SOFTMETAL_TENSOR_CORES": cores, "SOFTMETAL_MODE": "fast"}
    named = [f"{__file__}::{test}" for test in tests]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *named]
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"{len(named)} passed" in done.stdout, done.stdout[-500:]


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
