"""``npu.compare``: a device that is wrong is found at its step, and a saved step shows it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import npu
import npu_compiler
import npu_runtime
import pytest

from tests.support.compared import Wrong, ir_of, slightly
from tests.support.devices import metal_device


def test_a_wrong_device_is_found_at_its_step(tmp_path: Path) -> None:
    program, wrong = npu_compiler.compile(ir_of("block")), Wrong("linear_3", slightly)
    saved = tmp_path / "step.safetensors"
    report = npu.compare(program, "cpu", wrong, spread=True, save=saved)
    names = [row.step for row in report]
    assert report.first is not None and report.first.step == "linear_3" and len(report.beyond) == 1
    assert not report.agrees and report.saved == saved
    # The other steps have the right operands, and what goes on with the wrong ones shows in `spread`.
    after = report[names.index("linear_3") + 1 :]
    assert after and all(row.relative < 1e-6 and row.spread is not None and row.spread > 1e-6 for row in after)
    assert report.first.errors is not None and report.first.allowed is not None
    assert report.first.errors[0] < report.first.allowed < report.first.errors[1]
    assert "linear_3" in str(report) and "<- first beyond" in str(report)

    again = npu.compare(saved, "cpu", wrong)
    assert [row.step for row in again] == ["linear_3"] and again.first is not None
    assert again.first.relative == report.first.relative
    assert npu.compare(saved).agrees  # as recorded: the CPU, which is right


def test_the_first_device_may_be_the_wrong_one() -> None:
    report = npu.compare(ir_of("conv"), Wrong("linear", slightly), "cpu")
    assert report.first is not None and report.first.step == "linear"
    assert report.first.errors is not None and report.first.errors[0] > report.first.errors[1]


def test_a_wrong_kernel_is_found_inside_a_fused_step(tmp_path: Path) -> None:
    """One line of a kernel changed, in a process whose GPU is made of these kernels."""
    metal_device()
    kernels = tmp_path / "metal"
    kernels.mkdir()
    for file in (Path(__file__).parents[2] / "metal").iterdir():
        (kernels / file.name).write_text(file.read_text())
    changed, old = kernels / "normed_rows.h", "result += parameter<T>(bias, ParameterKind(kNormBias)"
    assert old in changed.read_text()
    changed.write_text(changed.read_text().replace(old, old.replace("+=", "+= 0.0001f +")))
    npu_compiler.compile(ir_of("block")).save(tmp_path / "block.npubin")

    def compare(*arguments: str, **environment: str) -> tuple[int, str]:
        command = [Path(sys.executable).with_name("npu"), "compare", *arguments]
        run = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **environment}, timeout=300
        )
        return run.returncode, run.stdout + run.stderr

    kind = "metal" if any(d.kind == "metal" and d.available for d in npu_runtime.devices()) else "metal:emulated"
    arguments = ["block.npubin", "--device", "cpu", "--with", kind, "--save", "step.safetensors"]
    status, text = compare(*arguments, NPU_KERNEL_FOLDER=str(kernels))
    assert status == 1 and "the first is 0, layer_norm + linear" in text, text
    assert "npu compare step.safetensors" in text
    status, text = compare("step.safetensors", NPU_KERNEL_FOLDER=str(kernels))
    assert status == 1 and "<- first beyond" in text, text
    status, text = compare("step.safetensors")  # with the kernels of the build
    assert status == 0 and "layer_norm + linear" in text, text


def test_a_saved_step_keeps_its_ops_together(tmp_path: Path) -> None:
    """Also on devices that would not fuse them."""
    saved = tmp_path / "step.safetensors"
    npu.compare(ir_of("block"), "cpu", metal_device(), step="layer_norm", save=saved)
    report = npu.compare(saved, "cpu", "cpu")
    assert [row.step for row in report] == ["layer_norm + linear"] and report.agrees
    assert report.sides == ("cpu", "cpu") and "the same device twice" in report.summary()


def test_a_saved_step_of_pytorch(tmp_path: Path) -> None:
    saved = tmp_path / "step.safetensors"
    npu.compare(ir_of("conv"), "cpu", "pytorch", step="conv2d", save=saved)
    report = npu.compare(saved)
    assert report.sides == ("cpu", "pytorch") and report.agrees and report[0].nodes == ["conv2d", "batch_norm", "relu"]
    wrong = npu.compare(saved, Wrong("conv2d", slightly))
    assert wrong.first is not None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_finite_on_one_side_only_is_beyond(value: float) -> None:
    def spoilt(array: Any) -> Any:
        array.reshape(-1)[0] = value
        return array

    report = npu.compare(ir_of("conv"), "cpu", Wrong("linear", spoilt))
    assert report.first is not None and report.first.step == "linear" and "one side only" in report.first.reason
    assert report.to_dict()["steps"][3]["relative"] == "inf"
