"""Programs of the op set at random, with plans that are checked as they run, against the reference interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from npu_compiler.opset import OPS

from tests.support.devices import chosen_device, device_of

from .making import a_program
from .shrinking import Choices, run_many, shrink
from .values import Choose

ROOT = Path(__file__).resolve().parents[2]
INSTRUCTION_SETS = ("avx512_bf16", "avx512", "avx2", "portable", "neon")


@pytest.fixture(autouse=True)
def _checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPU_CHECK_PLAN", "1")


@pytest.mark.parametrize("part", range(4))
def test_random_programs(part: int) -> None:
    run_many(chosen_device(), 100, seed=part, threads=1 + part % 2)


def test_random_programs_on_metal() -> None:
    run_many(device_of("metal"), 8, seed=0)


def test_every_op_is_met() -> None:
    met: dict[str, int] = dict.fromkeys(OPS, 0)
    updates = parts = 0
    for seed in range(300):
        made = a_program(Choose(Choices([], np.random.default_rng(seed))))
        for function in ("prepare", "main"):
            for op in made.program.data[function]:
                met[op["op"]] += 1
                parts += any(isinstance(operand, list) for operand in op["out"])
        updates += len(made.updated)
    assert min(met.values()) >= 10, met
    assert updates >= 20 and parts >= 50


def test_failing_choices_are_made_small() -> None:
    choices = np.random.default_rng(0).integers(0, 100, 200).tolist()
    assert sorted(shrink(choices, lambda c: len(c) > 3 and max(c) >= 8)) == [0, 0, 0, 8]


@pytest.mark.slow
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_many_random_programs(name: str) -> None:
    environment = {**os.environ, "NPU_CPU_ISA": name}
    can = subprocess.run([sys.executable, "-c", "from npu_runtime import Device; Device('cpu')"], env=environment,
                         capture_output=True, text=True)  # fmt: skip
    if can.returncode:
        pytest.skip(f"{name} cannot run here")
    command = [sys.executable, "-m", "tests.random_programs", "--count", "2000"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert name in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_many_random_programs_on_metal(part: int) -> None:
    run_many(device_of("metal"), 50, seed=1 + part)
