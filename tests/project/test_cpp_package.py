"""What C++ users get: the installed library, built against from outside, and the benchmark binary."""

import json
import os
import resource
import subprocess
from pathlib import Path

import cpp_tests
import npu_compiler
import pytest
import torch
from filelock import FileLock
from torch import nn
from torch_ir import extract_ir

ROOT = Path(__file__).resolve().parents[2]
EXPECTED_HEADERS = {"npu.h", "buffer.h", "device.h", "error.h", "executor.h", "program.h", "weights.h"}


def run(*command, code=0, environment=None):
    environment = environment or {name: v for name, v in os.environ.items() if name != "NPU_NUM_THREADS"}
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=1200)
    assert result.returncode == code, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout if code == 0 else result.stderr


@pytest.fixture(scope="module")
def build():
    """The folder that `make cpp-test` builds; nothing is compiled again when it is up to date."""
    (ROOT / "build").mkdir(exist_ok=True)
    with FileLock(ROOT / "build" / "dev.lock"):  # tests run in several processes
        return cpp_tests.build("Release")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "small.npubin"
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    npu_compiler.compile(extract_ir(model, torch.empty(2, 3, 8, 8, device="meta"), model_name="small")).save(path)
    return path


def test_a_program_from_outside_builds_against_the_installed_library(build, program, tmp_path):
    tools = cpp_tests.environment()
    prefix = tmp_path / "prefix"
    run("cmake", "--install", build, "--component", "development", "--prefix", prefix, environment=tools)
    assert {path.name for path in (prefix / "include" / "npu").iterdir()} >= EXPECTED_HEADERS
    assert (prefix / "bin" / "npu-bench").exists()
    source, outside = ROOT / "tests" / "cpp" / "outside", tmp_path / "outside"
    options = ["-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release"]
    run("cmake", "-S", source, "-B", outside, *options, environment=tools)
    run("cmake", "--build", outside, environment=tools)
    assert run(outside / "outside", program).split() == ["small", "[2,", "5]"]
    assert "cannot" in run(outside / "outside", tmp_path / "missing.npubin", code=1)


def test_installed_headers_include_nothing_else_of_ours(build):
    for header in (ROOT / "include" / "npu").glob("*.h"):
        includes = [line.split('"')[1] for line in header.read_text().splitlines() if line.startswith('#include "')]
        assert all(name.startswith("npu/") and (ROOT / "include" / name).exists() for name in includes), header
    for source in (ROOT / "cpp" / "bench").glob("*.*"):
        includes = [line.split('"')[1] for line in source.read_text().splitlines() if line.startswith('#include "')]
        assert all(name.startswith("npu/") or name in ("options.h", "whole_file.h") for name in includes), source


def test_bench_measures_and_writes_json(build, program, tmp_path):
    bench, figures = build / "cpp" / "bench" / "npu-bench", tmp_path / "figures.json"
    shown = run(bench, program, "--runs", 7, "--threads", 1, "--device", "cpu", "--json", figures, "--profile")
    assert "median ms" in shown
    assert "conv[" in shown
    found = json.loads(figures.read_text())
    assert found["program"] == "small"
    assert found["threads"] == 1
    assert len(found["runs_ms"]) == 7
    assert all(ms > 0 for ms in found["runs_ms"])
    assert "conv" in run(bench, program, "--text")
    assert "arena" in run(bench, program, "--plan")
    assert "--profile" in run(bench, "--help")


def test_bench_keeps_the_old_file_on_a_full_disk(build, program, tmp_path):
    bench, figures = build / "cpp" / "bench" / "npu-bench", tmp_path / "figures.json"
    command = [bench, program, "--runs", "2", "--device", "cpu", "--json"]
    run(*command, figures)
    old = figures.read_bytes()
    limited = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))  # noqa: E731
    for target, before in ((figures, limited), (tmp_path, None)):
        result = subprocess.run([*command, target], capture_output=True, text=True, preexec_fn=before)
        assert result.returncode == 1
        assert f'Error: [npu-bench] cannot write "{target}": ' in result.stderr
    assert figures.read_bytes() == old and list(tmp_path.iterdir()) == [figures]
    with open("/dev/full", "w") as full:
        result = subprocess.run([bench, program, "--plan"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1 and result.stderr.startswith("Error: [npu-bench] cannot write the output: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no program given"),
        (["missing.npubin"], "missing.npubin"),
        (["{program}", "--runs", "0"], "--runs"),
        (["{program}", "--runs"], "--runs"),
        (["{program}", "--threads", "many"], "many"),
        (["{program}", "--device", "metall"], "metall"),
        (["{program}", "--frobnicate"], "--frobnicate"),
        (["{program}", "--weights", "{program}"], "safetensors"),
        (["{program}", "--json", "/nowhere/at/all.json"], "/nowhere/at/all.json"),
    ],
)
def test_bench_names_mistakes(build, program, arguments, expected):
    bench = build / "cpp" / "bench" / "npu-bench"
    result = subprocess.run(
        [bench, *[a.format(program=program) for a in arguments]], capture_output=True, text=True, cwd="/"
    )
    assert result.returncode in (1, 2), result
    assert expected in result.stderr
    assert "terminate" not in result.stderr
