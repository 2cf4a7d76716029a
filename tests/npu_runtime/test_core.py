"""The compiled core: what it says about itself and the machine."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import npu_base
import npu_runtime
import pytest
import torch
from npu_runtime import _core


def run_python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_version_is_that_of_the_distribution():
    version = importlib.metadata.version("npu-simulation")
    assert npu_runtime.__version__ == version
    assert npu_runtime.build_info().version == version


def test_build_info():
    build = npu_runtime.build_info()
    assert build.compiler
    assert build.build_type
    assert build.system == {"Linux": "linux", "Darwin": "macos"}[platform.system()]
    assert build.architecture == {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    assert build.metal is False
    assert "BuildInfo(version=" in repr(build)


def test_cpu_info():
    cpu = npu_runtime.cpu_info()
    assert cpu.brand
    assert 1 <= cpu.usable_cores <= cpu.physical_cores <= cpu.logical_cores <= os.cpu_count()
    assert cpu.memory_bytes > 2**26
    assert set(map(type, cpu.features.values())) == {bool}
    assert "CpuInfo(brand=" in repr(cpu)


LINUX_X86 = (platform.system(), platform.machine()) == ("Linux", "x86_64")


@pytest.mark.skipif(not LINUX_X86, reason="reads the x86 flags of /proc/cpuinfo")
def test_cpu_features_agree_with_the_kernel():
    with open("/proc/cpuinfo") as file:
        flags = next(line for line in file if line.startswith("flags")).split(":")[1].split()
    kernel_names = {"sse4.2": "sse4_2", "avx512vnni": "avx512_vnni", "avx512bf16": "avx512_bf16"}
    kernel_names |= {"avx512fp16": "avx512_fp16", "amx-bf16": "amx_bf16"}
    for name, available in npu_runtime.cpu_info().features.items():
        assert available == (kernel_names.get(name, name) in flags), name


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
def test_cpu_affinity_limits_the_threads():
    one_cpu = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{one_cpu}}}); import npu_runtime as n; c = n.cpu_info(); "
        "print(c.affinity_logical_cores, c.usable_cores, n.get_num_threads())"
    )
    result = run_python("-c", code, NPU_NUM_THREADS="")
    assert result.stdout.split() == ["1", "1", "1"], result.stderr


def test_devices():
    devices = {device.kind: device for device in npu_runtime.devices()}
    assert list(devices)[:3] == ["cpu", "metal", "cuda"]
    assert devices["cpu"].available
    assert devices["cpu"].cores == npu_runtime.cpu_info().usable_cores
    assert not devices["metal"].available
    assert devices["metal"].reason
    if platform.system() == "Linux":
        assert "not macOS" in devices["metal"].reason
    assert "reason=" in repr(devices["metal"])
    assert devices["cuda"].available != bool(devices["cuda"].reason)


def test_a_device_of_pytorch():
    assert [npu_runtime.Device(torch.device(text)).kind for text in ("cpu", "cpu:0")] == ["cpu"] * 2
    names = {"cuda": "cuda", "cuda:0": "cuda", "cuda:1": "cuda:1", "mps": "metal", "mps:0": "metal", "xpu:2": "xpu:2"}
    assert {text: _core.device_name(torch.device(text)) for text in names} == names
    with pytest.raises(npu_runtime.InvalidValueError, match=r"\[device\].*meta.*expected"):
        npu_runtime.Device(torch.device("meta"))


@pytest.mark.parametrize("kind", ["cuda", "cuda:1"])
def test_gpus_that_are_not_there(kind: str) -> None:
    if any(device.kind == kind and device.available for device in npu_runtime.devices()):
        pytest.skip("it is there")
    with pytest.raises(
        npu_runtime.UnavailableError, match=r"\[device\].*(no NVIDIA driver|finds no GPU|no GPU 1).*expected"
    ):
        npu_runtime.Device(kind)
    with pytest.raises(npu_runtime.UnavailableError, match=r"\[device\]"):
        npu_runtime.CUDABackend(0 if kind == "cuda" else 1)


@pytest.mark.parametrize("index", [-1, "cuda", 1.0, None, True])
def test_what_is_no_number_of_a_gpu(index: object) -> None:
    with pytest.raises(npu_runtime.InvalidValueError, match="not the number of a GPU.*0, 1, 2"):
        npu_runtime.CUDABackend(index)


def test_importing_does_not_import_torch():
    result = run_python("-c", "import npu_runtime, sys; print('torch' in sys.modules)")
    assert result.stdout.split() == ["False"], result.stderr


def test_command_prints_tables():
    result = run_python("-m", "npu_runtime", NPU_NUM_THREADS="3", COLUMNS="100")
    assert result.returncode == 0, result.stderr
    for word in ("Build", "CPU", "Devices", npu_runtime.__version__, "processor", "cpu", "metal"):
        assert word in result.stdout


def test_command_prints_json():
    result = run_python("-m", "npu_runtime", "--json", NPU_NUM_THREADS="3")
    info = json.loads(result.stdout)
    assert set(info) == {"build", "python", "cpu", "threads", "devices"}
    assert info["threads"] == {"count": 3, "error": None, "max": _core.MAX_THREADS}
    assert info["python"]["version"] == platform.python_version()


def test_command_survives_a_bad_thread_count():
    info = json.loads(run_python("-m", "npu_runtime", "--json", NPU_NUM_THREADS="lots").stdout)
    assert info["threads"]["count"] is None
    assert 'got "lots"' in info["threads"]["error"]
    assert info["devices"]


def test_command_help_and_bad_option():
    assert "--json" in run_python("-m", "npu_runtime", "--help").stdout
    assert run_python("-m", "npu_runtime", "--no-such-option").returncode == 2


@pytest.mark.parametrize("option", ["--json", "--help", ""])
def test_command_into_a_closed_pipe(option):
    command = f"{sys.executable} -m npu_runtime {option} | true"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in result.stderr


def test_import_error_names_the_way_out(tmp_path):
    # A source tree without the extension, as somebody sees who forgot to install.
    package = tmp_path / "npu_runtime"
    package.mkdir()
    shutil.copytree(Path(npu_base.__file__).parent, tmp_path / "npu_base")
    for name in ("__init__.py", "errors.py", "threads.py"):
        shutil.copy(Path(npu_runtime.__file__).with_name(name), package)
    result = run_python("-S", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import npu_runtime")
    assert result.returncode == 1
    assert "pip install" in result.stderr
