#!/usr/bin/env python3
"""Build and run the C++ tests three times: as released, with the address and undefined-behaviour sanitizers, and those
that use threads with the thread sanitizer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dev_env import missing_for_emulation

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = {
    "Release": ["-DCMAKE_BUILD_TYPE=Release"],
    "sanitized": ["-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DNPU_SANITIZE=ON"],
    "threads": ["-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DNPU_SANITIZE_THREAD=ON"],
}
ONLY = {"threads": ["-R", r"^(cpu\.(planning|conv|matmul)|run\.)"]}
BUILT = {"threads": ["--target", "npu_cpu_tests", "npu_run_tests"]}


def run(arguments: list[str]) -> None:
    """Quiet unless it fails."""
    result = subprocess.run(arguments, cwd=ROOT, env=environment(), text=True, capture_output=True)
    if result.returncode:
        print(result.stdout, result.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"error: `{' '.join(arguments)}` failed with exit status {result.returncode}")


def environment() -> dict[str, str]:
    # cmake, ctest and ninja come with the environment of this interpreter.
    tools = str(Path(sys.executable).parent)
    inherited = {name: value for name, value in os.environ.items() if name != "NPU_NUM_THREADS"}
    return {**inherited, "PATH": tools + os.pathsep + os.environ.get("PATH", "")}


def emulation(variant: str) -> str:
    """Metal in software is tested as released; its stacks are its own, which sanitizers take for damage."""
    there = variant == "Release" and sys.platform == "linux" and not missing_for_emulation()
    return f"-DNPU_SOFTMETAL={'ON' if there else 'OFF'}"


def build(variant: str) -> Path:
    folder = ROOT / "build" / f"cpp-{variant.lower()}"
    bench = f"-DNPU_BUILD_BENCH={'ON' if variant == 'Release' else 'OFF'}"
    common = ["-DNPU_BUILD_PYTHON=OFF", "-DNPU_BUILD_TESTS=ON", bench, "-DNPU_WERROR=ON"]
    python = f"-DPython_EXECUTABLE={sys.executable}"
    run(["cmake", "-G", "Ninja", "-S", ".", "-B", str(folder), python, *common, emulation(variant), *VARIANTS[variant]])
    run(["cmake", "--build", str(folder), *BUILT.get(variant, [])])
    return folder


def main() -> int:
    for variant in VARIANTS:
        print(f"==> C++ tests ({variant})", flush=True)
        folder = build(variant)
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
