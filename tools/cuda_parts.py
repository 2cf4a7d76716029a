"""The parts of `make test-cuda`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# Without what does not touch a GPU: models on the CPU, and families of timm's and transformers' pinned versions.
MODELS = (
    "tests/gpu/test_models.py", "tests/whole_models", "--ignore=tests/whole_models/test_families.py",
    "--ignore=tests/whole_models/test_plans_of_decoding.py",
    "-k", "not on_the_cpu",
)  # fmt: skip
_MOST_AT_ONCE = 10  # failures that are named before the table
SANITIZERS = ("compute-sanitizer", "/usr/local/cuda/bin/compute-sanitizer", "/opt/cuda/bin/compute-sanitizer")


@dataclass(frozen=True)
class Setting:
    root: Path
    output: Path  # a folder for reports
    device: str
    environment: dict[str, str]
    jobs: int
    modules: int
    runs: int
    slow: bool
    xdist: bool
    lacking: tuple[str, ...] = ()  # modules that some tests need


@dataclass
class Result:
    """Failures and what did not run have a name and a reason."""

    passed: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    not_run: list[tuple[str, str]] = field(default_factory=list)
    excused: bool = False  # nothing ran, for a reason that is not our fault
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not self.failed and (self.passed > 0 or self.excused)

    def text(self) -> str:
        counts = f"{self.passed} passed, {len(self.failed)} failed, {len(self.not_run)} not run, {self.seconds:.0f} s"
        return "\n".join([f"    {counts}", *(f"    failed: {name}" for name, _ in self.failed[:_MOST_AT_ONCE])])


@dataclass(frozen=True)
class Part:
    name: str
    text: str
    work: Callable[[Setting], Result]

    def run(self, setting: Setting) -> Result:
        begin = time.monotonic()
        result = self.work(setting)
        result.seconds = time.monotonic() - begin
        return result


def last_words(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"


def pytest_part(name: str, *paths: str, alone: bool = False) -> Callable[[Setting], Result]:
    """``alone``: in one process, where memory of the GPU is measured."""

    def work(setting: Setting) -> Result:
        report, log = setting.output / f"{name}.xml", setting.output / f"{name}.log"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "-p", "no:cacheprovider"]
        command += ["--continue-on-collection-errors", *paths]
        if setting.xdist and not alone:
            command += ["-n", str(setting.jobs), "--dist", "worksteal"]
        if setting.slow:
            command += ["-m", ""]
        environment = {**setting.environment, "NPU_TEST_RUNS": str(setting.runs)}
        with log.open("w") as file:
            code = subprocess.run(command, cwd=setting.root, env=environment, stdout=file, stderr=file).returncode
        result = read_report(report, setting.lacking)
        if code not in (0, 1) or (code and not result.failed and not result.not_run):
            result.failed.append((f"pytest {' '.join(paths)}", f"exit status {code}: {last_words(log.read_text())}"))
        return result

    return work


def read_report(path: Path, lacking: tuple[str, ...] = ()) -> Result:
    """``lacking``: modules that are not installed, and whose tests therefore did not run."""
    result = Result()
    if not path.exists():
        return result
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name')}".removeprefix("::")
        bad = [child for child in case if child.tag in ("failure", "error")]
        skipped = case.find("skipped")
        trace = "\n".join(child.text or "" for child in bad)
        gone = [module for module in lacking if f"No module named '{module}" in trace]
        if bad and gone:
            result.not_run.append((name, f"{gone[0]} is not installed"))
        elif bad:
            result.failed.append((name, (bad[0].get("message") or bad[0].tag).strip()[:300]))
        elif skipped is not None:
            result.not_run.append((name, (skipped.get("message") or "no reason").strip()[:300]))
        else:
            result.passed += 1
    return result


def random_modules(setting: Setting) -> Result:
    """Seeds shared out among processes."""
    result, running = Result(), []
    each = -(-setting.modules // setting.jobs)
    environment = {**setting.environment, "NPU_CHECK_PLAN": "1"}
    for first in range(0, setting.modules, each):
        count = min(each, setting.modules - first)
        log = (setting.output / f"modules-{first}.log").open("w+")
        command = [sys.executable, "-m", "tests.random_modules", "--count", str(count), "--seed", str(first)]
        process = subprocess.Popen(command, cwd=setting.root, env=environment, stdout=log, stderr=subprocess.STDOUT)
        running.append((first, count, process, log))
    for first, count, process, log in running:
        process.wait()
        log.seek(0)
        text = log.read()
        log.close()
        wrong = re.search(r"^\d+ modules on .*: (\d+) wrong$", text, re.MULTILINE)
        if wrong is None:
            result.failed.append((f"seeds {first} to {first + count - 1}", f"stopped: {last_words(text)}"))
            continue
        result.passed += count - int(wrong[1])
        seeds = re.findall(r"^seed (\d+)", text, re.MULTILINE) or [f"{first} to {first + count - 1}"]
        if int(wrong[1]):
            result.failed += [(f"seed {seed}", f"see {Path(log.name).name}") for seed in seeds]
    return result


def sanitizer(tool: str) -> Callable[[Setting], Result]:
    """The packaged sample of `npu doctor --kernels`, which reaches every kernel, under compute-sanitizer."""

    def work(setting: Setting) -> Result:
        if not setting.device.startswith("cuda"):
            return Result(not_run=[(tool, "compute-sanitizer is for CUDA")], excused=True)
        program = next((path for name in SANITIZERS if (path := shutil.which(name))), None)
        if program is None:
            why = "compute-sanitizer was not found, on the PATH or in /usr/local/cuda"
            return Result(not_run=[(tool, why)], excused=True)
        log = setting.output / f"{tool}.log"
        doctor = [sys.executable, "-m", "npu", "doctor", "--kernels", "--device", setting.device]
        command = [program, "--tool", tool, "--error-exitcode", "99", "--print-limit", "20", *doctor]
        run = subprocess.run(
            command, cwd=setting.root, env={**setting.environment, "XDG_CACHE_HOME": str(setting.output / "cache")},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        log.write_text(run.stdout)
        programs = re.search(r"^(\d+) programs? in .* s: (.*)$", run.stdout, re.MULTILINE)
        summary = re.findall(r"=+ (ERROR SUMMARY|RACECHECK SUMMARY): (.*)$", run.stdout, re.MULTILINE)
        if programs and run.returncode == 0 and summary:
            return Result(passed=int(programs[1]))
        if "not supported" in run.stdout and not programs:
            return Result(not_run=[(tool, f"compute-sanitizer: {first_problem(run.stdout)}")], excused=True)
        what = summary[-1][1] if summary else "no summary of compute-sanitizer"
        done = programs[0] if programs else "the sample did not end"
        return Result(failed=[(tool, f"exit status {run.returncode}; {what}; {done}; see {log.name}")])

    return work


def first_problem(text: str) -> str:
    return next((line.strip("= \n")[:200] for line in text.splitlines() if "not supported" in line), "not supported")


def bench(setting: Setting) -> Result:
    """The C++ benchmark binary, on a program that the sample has."""
    if not setting.device.startswith("cuda"):
        return Result(not_run=[("npu-bench", "only built for CUDA here")], excused=True)
    code = (
        "import sys; from npu.kernel_sample import read_sample; "
        "(model,) = (e for e in read_sample() if e.name == 'DeepResNet'); sys.stdout.buffer.write(model.program)"
    )
    program = setting.output / "DeepResNet.npubin"
    with program.open("wb") as file:
        written = subprocess.run([sys.executable, "-c", code], cwd=setting.root, env=setting.environment, stdout=file)
    binary = setting.root / "build" / "cuda" / "cpp" / "bench" / "npu-bench"
    command = [str(binary), str(program), "--device", setting.device, "--profile", "--runs", "20"]
    run = subprocess.run(command, env=setting.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    (setting.output / "bench.log").write_text(run.stdout)
    if written.returncode or run.returncode:
        return Result(failed=[("npu-bench", f"exit status {run.returncode}: {last_words(run.stdout)}")])
    return Result(passed=1)


PARTS = (
    Part("ops", "the whole table of operators in three dtypes", pytest_part("ops", "tests/gpu/test_ops.py")),
    Part(
        "gpu",
        "10,000 runs, memory, threads, donation, errors, two GPUs",
        pytest_part("gpu", "tests/gpu/test_gpu.py", alone=True),
    ),
    Part("tensors", "CUDA tensors of PyTorch", pytest_part("tensors", "tests/gpu/test_cuda_tensors.py", alone=True)),
    Part(
        "grids",
        "grids longer than CUDA launches them",
        pytest_part("grids", "tests/ops/test_large_grids.py", "-m", "slow"),
    ),
    Part(
        "tokens",
        "Qwen2.5-1.5B, float32, token for token as on the CPU",
        pytest_part("tokens", "tests/gpu/test_tokens.py", "-m", "slow", alone=True),
    ),
    Part(
        "compare",
        "npu compare, up to a decode step of Qwen2.5-1.5B",
        pytest_part("compare", "tests/gpu/test_comparison.py", "-m", "", alone=True),
    ),
    Part("runtime", "executors, sessions, buffers, partitions, forks", pytest_part("runtime", "tests/npu_runtime")),
    Part("npu", "npu.compile, text generation, the command", pytest_part("npu", "tests/npu")),
    Part("models", "whole models and decoders", pytest_part("models", *MODELS)),
    Part("modules", "random modules against eager PyTorch", random_modules),
    Part("bench", "the C++ benchmark binary", bench),
    Part("memcheck", "memory accesses of every kernel", sanitizer("memcheck")),
    Part("racecheck", "races in shared memory of every kernel", sanitizer("racecheck")),
    Part("synccheck", "barriers of every kernel", sanitizer("synccheck")),
)
