#!/usr/bin/env python3
"""Compile and link the C++ core, its devices and its tests for arm64 macOS and arm64 Linux, on any machine.

CMake builds them with the cross compiler in the Python package `ziglang`. The first link builds a C++ library for
each target, which takes minutes; --compile-only stops before it, with libraries that are not optimised, and of Linux
compiles what depends on the system and the processor at once.

The Metal driver needs Apple's headers, which this project cannot include. Name a folder that has them (with
`Frameworks/Metal.framework`, `include` and `lib` in it) in the variable NPU_APPLE_SDK. Whatever is newer than macOS 14
and not asked for at run time is then an error.
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
LIBRARIES = ["npu_core", "npu_cpu", "npu_gpu", "npu_msl", "npu_cuda", "npu_devices"]
# Beside what the macOS target and a build for Linux on another processor compile.
LINUX_ONLY = ["npu_core"]
PROGRAMS = ["npu_core_tests", "npu_cpu_tests", "npu_gpu_tests", "npu_run_tests", "npu-bench"]
SDK = os.environ.get("NPU_APPLE_SDK")

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

# For the driver: Apple's headers use INFINITY before they include its definition.
APPLE = """\
set(CMAKE_INSTALL_NAME_TOOL true)  # CMake wants to find one, and nothing is installed
set(CMAKE_OBJCXX_COMPILER "{python}" -m ziglang c++ -target {target})
set(CMAKE_OBJCXX_ARCHIVE_CREATE "${{CMAKE_CXX_ARCHIVE_CREATE}}")
set(CMAKE_OBJCXX_ARCHIVE_FINISH "${{CMAKE_CXX_ARCHIVE_FINISH}}")
set(CMAKE_OBJCXX_FLAGS_INIT "-include math.h -iframework {sdk}/Frameworks -isystem {sdk}/include \
-Werror=unguarded-availability -Werror=objc-method-access")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-F{sdk}/Frameworks -L{sdk}/lib -lobjc")
"""


def run(*command: str | Path) -> None:
    """Run a command; show its output only if it fails."""
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


def configure(target: str, quickly: bool) -> Path:
    """``quickly``: nothing is optimised."""
    system, processor = TARGETS[target]
    driver = system == "Darwin" and SDK is not None
    # CMake caches the flags of its first run.
    folder = OUT / f"{target}{'-metal' if driver else ''}{'-quick' if quickly else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    toolchain = folder / "toolchain.cmake"
    names = {"system": system, "processor": processor, "python": sys.executable, "target": target}
    text = TOOLCHAIN.format(**names)
    if driver:
        text += APPLE.format(**names, sdk=SDK)
    if not toolchain.exists() or toolchain.read_text() != text:
        toolchain.write_text(text)
    options = [
        "BUILD_PYTHON=OFF",
        "BUILD_TESTS=ON",
        "BUILD_BENCH=ON",
        "WERROR=ON",
        f"METAL={'ON' if driver else 'OFF'}",
    ]
    python = f"-DPython_EXECUTABLE={sys.executable}"
    definitions = [f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", python, *[f"-DNPU_{option}" for option in options]]
    if quickly:
        definitions += ["-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O0", "-DNPU_MICRO_OPTIMISED=-O0"]
        definitions += ["-DCMAKE_CXX_FLAGS=-c"]  # else CMake links a program to find out which compiler it is
    run("cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, *definitions)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile-only", action="store_true", help="build the libraries alone: no link, no tests")
    arguments = parser.parse_args()
    if SDK is not None and not Path(SDK, "Frameworks", "Metal.framework", "Headers", "Metal.h").exists():
        raise SystemExit(f"error: NPU_APPLE_SDK={SDK} has no Frameworks/Metal.framework with headers")
    if importlib.util.find_spec("ziglang") is None:
        raise SystemExit("error: the package ziglang is not installed; run `make setup`")
    for target in TARGETS:
        linux = TARGETS[target][0] == "Linux"
        without = "" if SDK else " (without the Metal driver: see NPU_APPLE_SDK in --help)"
        print(f"==> {target}{'' if linux else without}", flush=True)
        folder = configure(target, arguments.compile_only)
        libraries = LINUX_ONLY if linux and arguments.compile_only else LIBRARIES
        libraries = [*libraries, *(["npu_metal"] if SDK and not linux else [])]
        run("cmake", "--build", folder, "--target", *libraries)
        print(f"    compiled {', '.join(libraries)}")
        if not arguments.compile_only:
            run("cmake", "--build", folder, "--target", *PROGRAMS)
            print(f"    linked {', '.join(PROGRAMS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
