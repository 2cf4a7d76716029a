#!/usr/bin/env python3
"""Build and run the C++ tests three times: as released, in the build that made the extension; with the address and
undefined-behaviour sanitizers; and those that use threads with the thread sanitizer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from dev_env import BUILD_DIR, build_options

ROOT = Path(__file__).resolve().parent.parent
SANITIZED = {"sanitized": "NPU_SANITIZE", "threads": "NPU_SANITIZE_THREAD"}
ONLY = {"threads": ["-R", r"^(cpu\.cpu_(conv|matmul)|run\.)"]}
BUILT = {"sanitized": ["all"], "threads": ["npu_cpu_tests", "npu_run_tests"]}


def run(arguments: list[str]) -> None:
    """Run a command; show its output only if it fails."""
    result = subprocess.run(arguments, cwd=ROOT, env=environment(), text=True, capture_output=True)
    if result.returncode:
        print(result.stdout, result.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"error: `{' '.join(arguments)}` failed with exit status {result.returncode}")


def environment() -> dict[str, str]:
    # cmake, ctest and ninja are in this interpreter's environment.
    tools = str(Path(sys.executable).parent)
    inherited = {name: value for name, value in os.environ.items() if name != "NPU_NUM_THREADS"}
    return {**inherited, "PATH": tools + os.pathsep + os.environ.get("PATH", "")}


def build(variant: str) -> Path:
    if variant == "Release":
        return configure_and_build(BUILD_DIR, build_options(), ["npu_tests", "npu-bench"])
    # Without emulated Metal, which switches stacks; sanitizers report that as an error. Warnings are no errors here:
    # instrumented code gets false ones from GCC, and the release build has compiled the same files.
    options = {"NPU_BUILD_PYTHON": "OFF", "NPU_BUILD_TESTS": "ON", "NPU_SOFTMETAL": "OFF", "NPU_WERROR": "OFF"}
    options |= {"CMAKE_BUILD_TYPE": "RelWithDebInfo", SANITIZED[variant]: "ON"}
    options["NPU_CPU_ISAS"] = instruction_sets(variant)
    options["CMAKE_CXX_FLAGS_RELWITHDEBINFO"] = "-O1 -g1"  # half the time to compile; reports still name lines
    return configure_and_build(ROOT / "build" / f"cpp-{variant}", options, BUILT[variant])


def instruction_sets(variant: str) -> str:
    """Those that this machine runs. What shares work between threads are the loops around kernels: the same for all."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return "all"
    features = set(info.read_text().split())
    wide = ["avx512"] * ("avx512f" in features) + ["avx512_bf16"] * ("avx512_bf16" in features)
    return ";".join(["portable", "avx2", "neon", *(wide if variant != "threads" else [])])


def configure_and_build(folder: Path, options: dict[str, str], targets: list[str]) -> Path:
    fresh = [] if (folder / "CMakeCache.txt").exists() else ["-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}"]
    run(["cmake", "-S", ".", "-B", str(folder), *fresh, *(f"-D{name}={value}" for name, value in options.items())])
    run(["cmake", "--build", str(folder), "--target", *targets])
    return folder


def main() -> int:
    for variant in ("Release", *SANITIZED):
        print(f"==> C++ tests ({variant})", flush=True)
        start = time.monotonic()
        folder = build(variant)
        built = time.monotonic()
        run(
            [
                "ctest",
                "--test-dir",
                str(folder),
                "--output-on-failure",
                "--no-tests=error",
                "--parallel",
                "2",
                *ONLY.get(variant, []),
            ]
        )
        print(f"    built in {built - start:.0f} s, passed in {time.monotonic() - built:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
