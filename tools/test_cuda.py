#!/usr/bin/env python3
"""Run everything that needs an NVIDIA GPU, with the interpreter that runs this file, as it is: `make test-cuda`.

Nothing is installed. The extension is built by cmake in build/cuda, and found there by way of PYTHONPATH; of the
interpreter's packages, torch, numpy, nanobind, pytest and others are needed, and said if missing before anything
starts. A table at the end names each part, what failed in it, and what did not run and why. The exit status is 1 if
anything failed, or a part that should have run did not.

``--device metal:emulated`` rehearses the same on a machine without such a GPU, with the extension that is installed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from cuda_parts import PARTS, Part, Result, Setting
from cuda_results import print_results

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "cuda"
STAGE = BUILD / "python"
SCRIPTS = BUILD / "scripts"
COMMANDS = {"npu": "npu.cli", "torch-ir": "torch_ir.cli", "pytorch-ir": "torch_ir.cli"}
OLDEST_CMAKE = (3, 26)
CUDA_ERROR_NO_DEVICE = 100
# Modules: what to install for them.
BUILD_MODULES = {"nanobind": "nanobind", "nlohmann_json": "nlohmann-json"}
RUN_MODULES = {
    "torch": "torch", "numpy": "numpy", "ml_dtypes": "ml_dtypes", "rich": "rich", "safetensors": "safetensors",
    "pytest": "pytest",
}  # fmt: skip
# Without these, some tests do not run, and the table says so.
SOME_TESTS = ("hypothesis", "filelock", "PIL", "torchvision", "transformers")

# A development install finds its packages by a hook, which goes before PYTHONPATH.
WITHOUT_EDITABLE = """import sys
sys.meta_path[:] = [
    finder for finder in sys.meta_path
    if not (type(finder).__name__ == "ScikitBuildRedirectingFinder" and "npu_runtime" in str(vars(finder)))
]
"""


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def fail(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(2)


def has_module(name: str) -> bool:
    # In a process of its own: packages that PYTHONPATH adds later count, and importing has effects.
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"
    return subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode == 0


def has_json_header() -> bool:
    folders = ("/usr/include", "/usr/local/include", os.environ.get("CONDA_PREFIX", "/nowhere") + "/include")
    return any(Path(folder, "nlohmann", "json.hpp").exists() for folder in folders)


def gpu_problem(device: str) -> str | None:
    """What is missing for a GPU; asked of the driver, because the extension is not built yet."""
    path = os.environ.get("NPU_CUDA_DRIVER") or "libcuda.so.1"
    try:
        driver = ctypes.CDLL(path)
    except OSError:
        return f"NVIDIA's driver ({path} cannot be loaded)"
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status == CUDA_ERROR_NO_DEVICE or (status == 0 and count.value == 0):
        return "an NVIDIA GPU (the driver finds none)"
    if status:
        return f"an NVIDIA GPU that can be used (the driver reports error {status})"
    if int(device.partition(":")[2] or 0) >= count.value:
        return f"a GPU {device} (the driver finds {count.value})"
    return None


def missing(device: str, building: bool) -> list[str]:
    """All that this interpreter and machine lack, in words for one message."""
    lacks = []
    if building and (problem := gpu_problem(device)):
        lacks.append(problem)
    if sys.version_info < (3, 10):  # noqa: UP036 - an old python3 must get a sentence, not a traceback
        lacks.append(f"Python 3.10 or newer (this is {sys.version.split()[0]})")
    modules = {**(BUILD_MODULES if building else {}), **RUN_MODULES}
    for name, package in modules.items():
        if not has_module(name) and not (name == "nlohmann_json" and has_json_header()):
            lacks.append(f"the Python package {package}")
    if building:
        import sysconfig

        if not any(shutil.which(name) for name in (os.environ.get("CXX") or "c++", "g++", "clang++")):
            lacks.append("a C++20 compiler")
        if problem := cmake_problem():
            lacks.append(problem)
        if not Path(sysconfig.get_path("include"), "Python.h").exists():
            lacks.append("Python.h (Debian: python3-dev)")
    return lacks


def tool(name: str) -> str | None:
    """In the interpreter's environment, which need not be active, or on the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def cmake_problem() -> str | None:
    program = tool("cmake")
    if program is None:
        return "cmake 3.26 or newer"
    found = re.search(r"(\d+)\.(\d+)", subprocess.run([program, "--version"], text=True, capture_output=True).stdout)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_CMAKE:
        return f"cmake 3.26 or newer ({program} is {found[0] if found else 'no cmake'})"
    return None


def build(jobs: int) -> None:
    say("building the extension in build/cuda")
    cmake = tool("cmake") or "cmake"
    ninja = tool("ninja")
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
    configured = any((BUILD / name).exists() for name in ("build.ninja", "Makefile"))
    if not configured:
        shutil.rmtree(BUILD, ignore_errors=True)  # what a configuration that failed has left
    options = {
        "CMAKE_BUILD_TYPE": "Release", "NPU_SOFTMETAL": "OFF", "NPU_BUILD_TESTS": "OFF", "NPU_BUILD_BENCH": "ON",
        "Python_EXECUTABLE": sys.executable,
    }  # fmt: skip
    defines = [f"-D{name}={value}" for name, value in options.items()]
    commands = (
        [cmake, "-S", str(ROOT), "-B", str(BUILD), *([] if configured else generator), *defines],
        [cmake, "--build", str(BUILD), "--parallel", str(jobs)],
        [cmake, "--build", str(BUILD), "--parallel", str(jobs), "--target", "npu-bench"],
    )
    for command in commands:
        result = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if result.returncode:
            fail(f"`{' '.join(command)}` failed with exit status {result.returncode}:\n{result.stdout[-6000:]}")


def stage() -> None:
    """The packages beside the extension that was built, and the commands: nothing goes to the user's environment."""
    extensions = sorted(BUILD.glob("cpp/bindings/_core*.so"))
    if len(extensions) != 1:
        fail(f"the build left {len(extensions)} extensions in {BUILD}/cpp/bindings; expected one; try removing {BUILD}")
    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(ROOT / "python", STAGE, ignore=shutil.ignore_patterns("__pycache__", "_core*.so"))
    shutil.copy2(extensions[0], STAGE / "npu_runtime")
    stub = BUILD / "cpp" / "bindings" / "_core.pyi"
    if stub.exists():
        shutil.copy2(stub, STAGE / "npu_runtime")
    project = (ROOT / "pyproject.toml").read_text()
    version = next(x for x in project.splitlines() if x.startswith("version = ")).split('"')[1]
    backends = project.partition("[project.entry-points.torch_dynamo_backends]\n")[2].partition("\n\n")[0]
    info = STAGE / f"npu_simulation-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: npu-simulation\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[torch_dynamo_backends]\n" + backends.replace('"', "") + "\n")
    (STAGE / "sitecustomize.py").write_text(WITHOUT_EDITABLE)
    SCRIPTS.mkdir(exist_ok=True)
    for name, module in COMMANDS.items():
        path = SCRIPTS / name
        path.write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        path.chmod(0o755)


def environment(device: str, staged: bool) -> dict[str, str]:
    variables = {k: v for k, v in os.environ.items() if k not in ("NPU_NUM_THREADS", "NPU_EMULATE_METAL")}
    variables |= {"NPU_TEST_DEVICE": device, "PYTHONUNBUFFERED": "1"}
    if staged:
        paths = [str(STAGE), str(ROOT), os.environ.get("PYTHONPATH", "")]
        variables["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        variables["NPU_TEST_SCRIPTS"] = str(SCRIPTS)
    return variables


def check_device(setting: Setting, staged: bool) -> str:
    code = (
        f"from npu_runtime import Device, _core; d = Device({setting.device!r}); "
        "print(_core.__file__, f'{d.kind}: {d.name}', sep=chr(10))"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, env=setting.environment, text=True, capture_output=True)
    if run.returncode:
        fail(f"{setting.device} cannot be used: {run.stderr.strip().splitlines()[-1]}")
    extension, device = run.stdout.strip().splitlines()
    if staged and not Path(extension).is_relative_to(STAGE):
        fail(f"this interpreter imports {extension} before the one that was built; uninstall npu-simulation from it")
    return device


def parse(argv: list[str] | None) -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="tools/test_cuda.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or metal:emulated for a rehearsal")
    parser.add_argument("--only", action="append", choices=[p.name for p in PARTS], help="this part; may be repeated")
    parser.add_argument("--jobs", type=int, default=max(1, cores - 2), help="processes at a time (cores less two)")
    parser.add_argument("--modules", type=int, default=1560, help="random modules (default: 1560)")
    parser.add_argument("--runs", type=int, default=10_000, help="runs of the test for leaks (default: 10000)")
    parser.add_argument("--slow", action="store_true", help="the tests marked slow too: full-size models and others")
    parser.add_argument("--list", action="store_true", help="show the parts, and run nothing")
    args = parser.parse_args(argv)
    if min(args.jobs, args.modules, args.runs) < 1:
        parser.error("--jobs, --modules and --runs must be at least 1")
    if not re.fullmatch(r"cuda(:\d{1,4})?|metal(:emulated)?", args.device):
        parser.error(f"argument --device: got {args.device}; expected cuda, cuda:N or metal:emulated")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.list:
        for part in PARTS:
            print(f"{part.name:12} {part.text}")
        return 0
    building = args.device.startswith("cuda")
    if lacks := missing(args.device, building):
        fail(
            f"{sys.executable} and this machine lack what test-cuda needs: {', '.join(lacks)}. "
            "It installs nothing; install these, or name another interpreter: make test-cuda PYTHON=/path/to/python3"
        )
    if building:
        build(len(os.sched_getaffinity(0)))
        stage()
    setting = Setting(
        ROOT, ROOT / "build" / "test-cuda", args.device, environment(args.device, building), args.jobs,
        args.modules, args.runs, args.slow, has_module("xdist"),
        tuple(name for name in SOME_TESTS if not has_module(name)),
    )  # fmt: skip
    shutil.rmtree(setting.output, ignore_errors=True)
    setting.output.mkdir(parents=True)
    processes = f"{setting.jobs} processes" if setting.xdist else "one process, because pytest-xdist is not installed"
    say(f"on {check_device(setting, building)}; {processes}")
    chosen = [part for part in PARTS if not args.only or part.name in args.only]
    results: list[tuple[Part, Result]] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the table is printed then too
    try:
        for part in chosen:
            say(f"{part.name}: {part.text}")
            results.append((part, part.run(setting)))
            print(results[-1][1].text(), flush=True)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
    unrun = [part for part in PARTS if part not in [p for p, _ in results]]
    return print_results(results, [(p, "not asked for" if p not in chosen else "interrupted") for p in unrun])


if __name__ == "__main__":
    sys.exit(main())
