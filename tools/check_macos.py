#!/usr/bin/env python3
"""Compile and link the C++ core and its tests for arm64 macOS and arm64 Linux, on any machine.

Uses the cross compiler in the Python package `ziglang`. The first link builds a C++ library for each target,
which takes minutes; --compile-only leaves it out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "cross"
TARGETS = ("aarch64-macos.14.0", "aarch64-linux-gnu.2.28")
FLAGS = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]


def sources() -> list[Path]:
    tests = [path for path in (ROOT / "tests" / "cpp").glob("*.cpp") if not path.name.startswith("fuzz_")]  # own main()
    return sorted([*(ROOT / "cpp" / "core").glob("*.cpp"), *tests])


def json_include() -> str:
    """Where the package nlohmann-json has its headers."""
    found = importlib.util.find_spec("nlohmann_json")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("error: the package nlohmann-json is not installed; run `make setup`")
    return f"{found.submodule_search_locations[0]}/include"


def definitions() -> list[str]:
    """Those that CMake gives; see cpp/core/CMakeLists.txt."""
    match = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    version = match.group(1) if match else "unknown"
    return [f'-DNPU_VERSION="{version}"', '-DNPU_BUILD_TYPE="Release"', '-DNPU_CXX_FLAGS="-O1"']


def zig(arguments: list[str]) -> None:
    environment = {
        **os.environ,
        "ZIG_GLOBAL_CACHE_DIR": str(OUT / "cache"),
        "ZIG_LOCAL_CACHE_DIR": str(OUT / "cache"),
    }
    command = [sys.executable, "-m", "ziglang", "c++", *arguments]
    result = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    if result.returncode:
        print(result.stdout, result.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"error: compiling for {arguments[1]} failed")


def compile_all(target: str) -> list[str]:
    folder = OUT / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "git_describe.h").write_text('#define NPU_GIT_DESCRIBE ""\n')
    options = [*FLAGS, *definitions(), "-Iinclude", "-Icpp/core", f"-I{folder}", "-isystem", json_include()]

    def compile_one(source: Path) -> str:
        compiled = str(folder / f"{source.stem}.o")
        zig(["-target", target, *options, "-c", str(source), "-o", compiled])
        return compiled

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sources()))


def link(target: str, objects: list[str]) -> Path:
    program = OUT / target / "npu_core_tests"
    zig(["-target", target, *objects, "-o", str(program)])
    return program


def main() -> int:
    parser = argparse.ArgumentParser(description="Cross-compile the C++ core for arm64 macOS and Linux.")
    parser.add_argument("--compile-only", action="store_true", help="do not link")
    arguments = parser.parse_args()
    if importlib.util.find_spec("ziglang") is None:
        print(
            "error: the package ziglang is not installed; run `make setup`, or `pip install ziglang`",
            file=sys.stderr,
        )
        return 2
    for target in TARGETS:
        print(f"==> {target}", flush=True)
        objects = compile_all(target)
        print(f"    compiled {len(objects)} files")
        if not arguments.compile_only:
            program = link(target, objects)
            print(f"    linked {program.relative_to(ROOT)} ({program.stat().st_size >> 10} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
