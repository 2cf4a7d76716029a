"""Clear errors for what goes wrong with GPUs, after which the process goes on; over the stand-in."""

from __future__ import annotations

import pytest

from tests.cuda.stand_in import Case, run_cases


def unavailable(expected, **settings):
    return Case("unavailable", {"EXPECTED": expected, **settings})


CASES = {
    "no driver": unavailable(
        "no NVIDIA driver was found (/nowhere/libcuda.so.1)", NPU_CUDA_DRIVER="/nowhere/libcuda.so.1"
    ),
    "an old driver": unavailable(
        "the NVIDIA driver is for CUDA 11.4; expected one for CUDA 12.0 or newer", driver=11040
    ),
    "a driver that does not start": unavailable("the NVIDIA driver does not start", init=999),
    "no GPU": unavailable("the NVIDIA driver finds no GPU", gpus=0),
    "an old GPU": unavailable("the GPU Stand-in 0 is too old; got sm_75; expected sm_80 or newer", capability=75),
    "no NVRTC": unavailable("NPU_NVRTC names no library that can be used", NPU_NVRTC="/nowhere/libnvrtc.so"),
    "an NVRTC newer than the driver": unavailable("is too new for the NVIDIA driver", driver=12080, NPU_NVRTC=""),
    "a GPU that is not there": Case("no_such_gpu", {"gpus": 2}),
    "a kernel that does not compile": Case("kernel_does_not_compile"),
    "a launch that is refused": Case("launch_is_refused"),
    "a launch that faults": Case("launch_faults"),
    "a launch that faults while the driver waits": Case("launch_faults", {"CUDA_LAUNCH_BLOCKING": 1}),
    "memory runs out while loading": Case("memory_runs_out_while_loading"),
    "10,000 runs": Case("runs_allocate_nothing", {"NPU_CUDA_CONSTANT_ARGS": 0}),
    "a forked child": Case("child_is_refused"),
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    return run_cases("bad_luck_cases", CASES, tmp_path_factory.mktemp("bad_luck"))


@pytest.mark.parametrize("case", CASES)
def test_bad_luck(case, failures):
    assert case not in failures, failures[case]
