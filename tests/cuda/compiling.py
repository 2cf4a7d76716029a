"""Kernels compiled for NVIDIA GPUs by NVRTC, without a GPU; see tests/cpp/cuda/compile.cpp."""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import npu_compiler
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "npu-cuda-compile"


class Compiled(NamedTuple):
    architecture: str
    source: str  # a library, or what generated kernels stand before
    kernel: str
    threads: int  # of a block, at most
    registers: int
    stack: int  # bytes of a thread
    spills: int  # bytes, stored and loaded
    shared: int  # bytes of a block, beside those of the launch


def compiler_path() -> Path:
    # Sanitizers load libraries in their own name, so that NVRTC would not find its other half.
    path = ROOT / "build" / "dev" / "tests" / "cpp" / PROGRAM
    if not path.exists():
        pytest.skip(f"{PROGRAM} is not built; try: make cpp-test")
    return path


def compile_kernels(
    *arguments: str | Path, architectures: Sequence[str] = ("sm_90",), threads: int = 2
) -> list[Compiled]:
    """One of each kernel asked for; fails with the compiler's words if one does not compile."""
    command = [compiler_path(), "--site", sysconfig.get_path("platlib"), "--threads", threads, *arguments]
    for architecture in architectures:
        command += ["--arch", architecture]
    result = subprocess.run([str(word) for word in command], text=True, capture_output=True)
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    failed = [" ".join(row) for row in rows if row[4] == "failed"]
    assert not failed, "\n".join(failed[:10])
    assert result.returncode == 0, result.stderr
    assert rows, "nothing was compiled"
    return [
        Compiled(row[0], row[1], row[2], int(row[3]), int(row[4]), int(row[5]), int(row[6]) + int(row[7]), int(row[8]))
        for row in rows
    ]


def save_programs(programs: Iterable[npu_compiler.CompiledProgram], folder: Path) -> str:
    """The argument that names them."""
    paths = []
    for i, program in enumerate(programs):
        paths.append(folder / f"{i}.npubin")
        program.save(paths[-1])
    (folder / "list").write_text("".join(f"{path}\n" for path in paths))
    return f"@{folder / 'list'}"
