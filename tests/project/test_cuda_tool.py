"""`make test-cuda` says what it lacks before it starts, and never takes for passed what did not run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import cuda_parts
import pytest
import test_cuda
from cuda_parts import PARTS, Part, Result, Setting
from cuda_results import print_results

ROOT = Path(__file__).resolve().parents[2]
PART = PARTS[0]

REPORT = """<testsuites><testsuite>
<testcase classname="tests.a" name="right"/>
<testcase classname="tests.a" name="wrong"><failure message="error 2, allowed 1&#10;more">trace</failure></testcase>
<testcase classname="tests.a" name="broken"><error message="no fixture">trace</error></testcase>
<testcase classname="tests.a" name="left"><skipped message="needs two GPUs">place</skipped></testcase>
</testsuite></testsuites>"""


def setting(tmp_path: Path, device: str = "cuda") -> Setting:
    return Setting(ROOT, tmp_path, device, dict(os.environ), 1, 2, 10, False, False)


def test_reports_of_pytest_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    path.write_text(REPORT)
    result = cuda_parts.read_report(path)
    assert result.passed == 1
    assert [name for name, _ in result.failed] == ["tests.a::wrong", "tests.a::broken"]
    assert result.not_run == [("tests.a::left", "needs two GPUs")]
    assert not result.good


def test_a_pytest_that_dies_or_collects_nothing_has_failed(tmp_path: Path) -> None:
    work = cuda_parts.pytest_part("gone", "tests/there/is/none.py")
    result = work(setting(tmp_path))
    assert not result.good and result.passed == 0
    (fault,) = result.failed
    assert "exit status 4" in fault[1] and "none.py" in fault[1]


def test_tests_that_need_what_is_not_installed_did_not_run(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("def test_right(): pass\n")
    (tmp_path / "test_more.py").write_text("import nowhere\ndef test_never(): pass\n")
    work = cuda_parts.pytest_part("some", str(tmp_path))
    result = work(replace(setting(tmp_path), lacking=("nowhere",)))
    assert result.good and result.passed == 1
    ((name, reason),) = result.not_run
    assert "test_more" in name and reason == "nowhere is not installed"
    assert [name for name, _ in work(setting(tmp_path)).failed] == [name]


@pytest.mark.parametrize(
    ("result", "status", "words"),
    [
        (Result(passed=3), 0, "all parts passed"),
        (Result(passed=3, failed=[("test", "why\nmore")]), 1, "test: why"),
        (Result(not_run=[("test", "needs a GPU")]), 1, "FAILED: ops"),
        (Result(), 1, "FAILED: ops"),
        (Result(not_run=[("memcheck", "not found")], excused=True), 0, "NOT RUN at all: ops"),
    ],
)
def test_the_table_and_the_exit_status(
    result: Result, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert print_results([(PART, result)], []) == status
    shown = capsys.readouterr().out
    assert words in shown
    for _, reason in result.not_run:
        assert f"1 x {reason}" in shown


def test_parts_that_were_left_out_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_results([(PART, Result(passed=1))], [(PARTS[1], "not asked for")]) == 0
    shown = capsys.readouterr().out
    assert f"{PARTS[1].text}: not asked for" in shown and "all parts passed" not in shown
    assert print_results([], [(part, "interrupted") for part in PARTS]) == 1


def test_what_an_interpreter_lacks_is_said_before_anything_starts(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    before = sorted((tmp_path / "bare").rglob("*"))
    command = [tmp_path / "bare" / "bin" / "python", "-B", ROOT / "tools" / "test_cuda.py"]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(command, text=True, capture_output=True, env=clean)
    assert run.returncode == 2 and run.stdout == ""
    for package in ("nanobind", "torch", "numpy", "pytest", "safetensors"):
        assert f"the Python package {package}" in run.stderr
    assert "installs nothing" in run.stderr and "make test-cuda PYTHON=" in run.stderr
    assert sorted((tmp_path / "bare").rglob("*")) == before


DRIVER = "int cuInit(unsigned f) {{ return {status}; }} int cuDeviceGetCount(int* n) {{ *n = {gpus}; return 0; }}"
NO_GPU = "an NVIDIA GPU (the driver finds none)"


@pytest.mark.parametrize(
    ("status", "gpus", "device", "problem"),
    [
        (0, 2, "cuda:1", None),
        (0, 2, "cuda:2", "a GPU cuda:2 (the driver finds 2)"),
        (0, 0, "cuda", NO_GPU),
        (100, 0, "cuda", NO_GPU),
        (803, 0, "cuda", "an NVIDIA GPU that can be used (the driver reports error 803)"),
    ],
)
def test_the_gpu_is_looked_for_before_anything_is_built(
    status: int, gpus: int, device: str, problem: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, library = tmp_path / "driver.c", tmp_path / "driver.so"
    source.write_text(DRIVER.format(status=status, gpus=gpus))
    compiler = shutil.which("cc") or pytest.skip("there is no C compiler")
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", library], check=True)
    monkeypatch.setenv("NPU_CUDA_DRIVER", str(library))
    assert test_cuda.gpu_problem(device) == problem


def test_a_machine_without_a_driver_builds_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NPU_CUDA_DRIVER", "/nowhere/libcuda.so.1")
    monkeypatch.setattr(test_cuda, "build", lambda jobs: pytest.fail("it builds"))
    with pytest.raises(SystemExit):
        test_cuda.main([])
    (line,) = capsys.readouterr().err.splitlines()
    assert "lack what test-cuda needs: NVIDIA's driver (/nowhere/libcuda.so.1 cannot be loaded)" in line
    with pytest.raises(SystemExit):
        test_cuda.main(["--device", "cuda:x"])
    assert "got cuda:x; expected cuda, cuda:N" in capsys.readouterr().err


def test_an_old_cmake_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "cmake"
    old.write_text("#!/bin/sh\necho cmake version 3.25.1\n")
    old.chmod(0o755)
    monkeypatch.setattr(test_cuda, "tool", lambda name: str(old))
    assert test_cuda.cmake_problem() == f"cmake 3.26 or newer ({old} is 3.25)"
    monkeypatch.setattr(test_cuda, "tool", lambda name: None)
    assert test_cuda.cmake_problem() == "cmake 3.26 or newer"


def test_without_the_sanitizer_its_parts_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_parts, "SANITIZERS", ("no-such-sanitizer",))
    result = cuda_parts.sanitizer("memcheck")(setting(tmp_path))
    assert result.good and result.passed == 0
    assert "compute-sanitizer was not found" in result.not_run[0][1]


FAKE = {
    "clean": ("228 programs in 9 s: none deviates\n========= ERROR SUMMARY: 0 errors\n", 0, ""),
    "errors": ("228 programs in 9 s: none deviates\n========= ERROR SUMMARY: 3 errors\n", 99, "3 errors"),
    "deviation": ("228 programs in 9 s: 1 deviation\n========= ERROR SUMMARY: 0 errors\n", 1, "1 deviation"),
    "killed": ("========= COMPUTE-SANITIZER\n", 139, "the sample did not end"),
    "silent": ("228 programs in 9 s: none deviates\n", 0, "no summary"),
}


@pytest.mark.parametrize("name", FAKE)
def test_what_the_sanitizer_finds_fails(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, status, words = FAKE[name]
    (tmp_path / "text").write_text(text)
    program = tmp_path / "compute-sanitizer"
    program.write_text(f"#!/bin/sh\ncat '{tmp_path / 'text'}'\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setattr(cuda_parts, "SANITIZERS", (str(program),))
    result = cuda_parts.sanitizer("memcheck")(setting(tmp_path))
    assert result.good == (name == "clean")
    assert result.passed == (228 if name == "clean" else 0)
    assert words in "".join(reason for _, reason in result.failed)


def test_random_modules_are_shared_out(tmp_path: Path) -> None:
    part: Part = next(part for part in PARTS if part.name == "modules")
    result = part.run(setting(tmp_path))
    assert (result.passed, result.failed) == (2, [])


def test_the_parts_are_listed() -> None:
    command = [sys.executable, ROOT / "tools" / "test_cuda.py", "--list"]
    shown = subprocess.run(command, text=True, capture_output=True, check=True).stdout
    assert [line.split()[0] for line in shown.splitlines()] == [part.name for part in PARTS]
