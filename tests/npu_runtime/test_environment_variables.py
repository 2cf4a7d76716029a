"""Environment variables, each with a value that it may not have: an error, not another behaviour."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from npu_runtime import Device, InvalidValueError

from tests.support.devices import metal_device

RUN = """
import numpy as np, npu_compiler, torch
from npu_runtime import Device, Executor
from torch_ir import extract_ir
device = Device("metal:emulated")
program = npu_compiler.compile(extract_ir(torch.nn.Softmax(-1), torch.ones(2, 4)))
print(Executor(program, device).run({"input": np.ones((2, 4), np.float32)})["output"].to_numpy().sum())
"""
LIST = "from npu_runtime import devices; print([d.reason for d in devices() if d.kind == 'metal'])"


def result_of(code: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **variables}, text=True, capture_output=True)


@pytest.fixture(autouse=True)
def _emulated() -> None:
    if metal_device().name == Device().name:
        pytest.skip("these are of the emulated device")


WRONG = [
    ("SOFTMETAL_MODE", "quick", "got \"quick\"; expected checked or fast"),
    ("NPU_SEPARATE_TENSORS", "yes", "got \"yes\"; expected 0 or 1"),
    ("SOFTMETAL_TENSOR_CORES", "yes", "got \"yes\"; expected 0 or 1 or 2"),
    ("NPU_FAR_MEMORY", "yes", "got \"yes\"; expected 0 or 1"),
    ("NPU_CHECK_PLAN", "yes", "got \"yes\"; expected 0 or 1"),
    ("NPU_EMULATE_METAL", "true", "got \"true\"; expected 0 or 1"),
    ("NPU_KERNEL_FOLDER", "no/such/folder", "does not name a folder; got \"no/such/folder\"; expected a folder"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "words"), WRONG, ids=[w[0] for w in WRONG])
def test_wrong_values_are_refused(name: str, value: str, words: str) -> None:
    failed = result_of(RUN, {name: value})
    assert failed.returncode != 0 and "InvalidValueError: [environment]" in failed.stderr
    assert name in failed.stderr and words in failed.stderr
    listed = result_of(LIST, {name: value})  # the list of devices names the cause
    assert listed.returncode == 0 and name in listed.stdout


KERNELS = str(Path(__file__).resolve().parents[2] / "metal")
RIGHT = [
    {"SOFTMETAL_MODE": "fast", "NPU_SEPARATE_TENSORS": "1", "NPU_CHECK_PLAN": "1", "NPU_EMULATE_METAL": "0",
     "NPU_FAR_MEMORY": "1", "NPU_KERNEL_FOLDER": KERNELS},
    {"SOFTMETAL_MODE": "", "NPU_SEPARATE_TENSORS": "0", "NPU_CHECK_PLAN": "0", "NPU_EMULATE_METAL": "",
     "NPU_KERNEL_FOLDER": ""},
]  # fmt: skip


@pytest.mark.parametrize("variables", RIGHT, ids=["set", "empty"])
def test_values_that_may_be(variables: dict[str, str]) -> None:
    done = result_of(RUN, variables)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(2)


@pytest.mark.parametrize("kind", ["", 5, b"cpu", "cuda:", "cuda:-1", "cuda:x", "cuda0", "tpu"])
def test_what_is_no_device(kind: object) -> None:
    with pytest.raises(InvalidValueError, match=r"\[device\].*expected"):
        Device(kind)
