#!/usr/bin/env python3
"""Compile and link the C++ core, its devices and its tests for arm64 macOS and arm64 Linux, on any machine.

CMake builds them with the cross compiler in the Python package `ziglang`. The first link builds a C++ library for
each target, which takes minutes; --compile-only stops before it, with the libraries.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "cross"
TARGETS = {"aarch64-macos.14.0": ("Darwin", "arm64"), "aarch64-linux-gnu.2.28": ("Linux", "aarch64")}
LIBRARIES = ["npu_core", "npu_cpu", "npu_devices"]
PROGRAMS = ["npu_core_tests", "npu_cpu_tests", "npu_run_tests", "npu-bench"]

TOOLCHAIN = """\
set(CMAKE_SYSTEM_NAME {system})
set(CMAKE_SYSTEM_PROCESSOR {processor})
set(CMAKE_OSX_SYSROOT "")
set(CMAKE_CXX_COMPILER "{python}" -m ziglang c++ -target {target})
set(CMAKE_AR "{python}")
set(CMAKE_CXX_ARCHIVE_CREATE "<CMAKE_AR> -m ziglang ar qc <TARGET> <OBJECTS>")
set(CMAKE_CXX_ARCHIVE_FINISH "<CMAKE_AR> -m ziglang ranlib <TARGET>")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
"""


def run(*command: str | Path) -> None:
    """Quiet unless it fails."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    caches = {name: str(OUT / "cache") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **caches, "PATH": paths},
        text=True,
        capture_output=True,
    )
    if result.returncode:
        print(result.stdout, result.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"error: `{' '.join(map(str, command))}` failed with exit status {result.returncode}")


def configure(target: str) -> Path:
    folder = OUT / target
    folder.mkdir(parents=True, exist_ok=True)
    system, processor = TARGETS[target]
    toolchain = folder / "toolchain.cmake"
    text = TOOLCHAIN.format(system=system, processor=processor, python=sys.executable, target=target)
    if not toolchain.exists() or toolchain.read_text() != text:
        toolchain.write_text(text)
    options = ["BUILD_PYTHON=OFF", "BUILD_TESTS=ON", "BUILD_BENCH=ON", "WERROR=ON"]
    python = f"-DPython_EXECUTABLE={sys.executable}"
    definitions = [f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", python, *[f"-DNPU_{option}" for option in options]]
    run("cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, *definitions)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description="Cross-compile the C++ core for arm64 macOS and Linux.")
    parser.add_argument("--compile-only", action="store_true", help="build the libraries alone: no link, no tests")
    arguments = parser.parse_args()
    if importlib.util.find_spec("ziglang") is None:
        raise SystemExit("error: the package ziglang is not installed; run `make setup`")
    for target in TARGETS:
        print(f"==> {target}", flush=True)
        folder = configure(target)
        run("cmake", "--build", folder, "--target", *LIBRARIES)
        print(f"    compiled {', '.join(LIBRARIES)}")
        if not arguments.compile_only:
            run("cmake", "--build", folder, "--target", *PROGRAMS)
            print(f"    linked {', '.join(PROGRAMS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
