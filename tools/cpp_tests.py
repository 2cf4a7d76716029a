#!/usr/bin/env python3
"""Build and run the C++ tests three times: as released, with the address and undefined-behaviour sanitizers, and those
that use threads with the thread sanitizer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = {
    "Release": ["-DCMAKE_BUILD_TYPE=Release"],
    "sanitized": ["-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DNPU_SANITIZE=ON"],
    "threads": ["-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DNPU_SANITIZE_THREAD=ON"],
}
ONLY = {"threads": ["-R", r"^(cpu\.(planning|conv|matmul)|run\.)"]}


def run(arguments: list[str], environment: dict[str, str]) -> None:
    """Quiet unless it fails."""
    result = subprocess.run(arguments, cwd=ROOT, env=environment, text=True, capture_output=True)
    if result.returncode:
        print(result.stdout, result.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"error: `{' '.join(arguments)}` failed with exit status {result.returncode}")


def main() -> int:
    # cmake, ctest and ninja come with the environment of this interpreter.
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": tools + os.pathsep + os.environ.get("PATH", "")}
    environment.pop("NPU_NUM_THREADS", None)
    for variant, options in VARIANTS.items():
        print(f"==> C++ tests ({variant})", flush=True)
        folder = f"build/cpp-{variant.lower()}"
        common = ["-DNPU_BUILD_PYTHON=OFF", "-DNPU_BUILD_TESTS=ON", "-DNPU_BUILD_BENCH=ON", "-DNPU_WERROR=ON"]
        run(["cmake", "-G", "Ninja", "-S", ".", "-B", folder, *common, *options], environment)
        run(["cmake", "--build", folder], environment)
        only = ONLY.get(variant, [])
        run(["ctest", "--test-dir", folder, "--output-on-failure", "--no-tests=error", *only], environment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
