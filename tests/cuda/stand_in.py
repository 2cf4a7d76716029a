"""Cases that run in a process of their own, over the stand-in for NVIDIA's driver and compiler that the C++ tests
build: kernels do not run in it, but what is done with memory and streams is judged."""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "build" / "dev" / "tests" / "cpp" / "libnpu_cuda_stand_in.so"


def run_case(module: str, case: str, folder: Path, **settings: object) -> str:
    """Call a function of a module of this folder in a new process; it fails with what that wrote."""
    if not LIBRARY.exists():
        pytest.skip(f"{LIBRARY.name} is not built; try: make cpp-test")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NPU_")}
    environment |= {"NPU_CUDA_DRIVER": str(LIBRARY), "NPU_NVRTC": str(LIBRARY), "NPU_CUDA_CACHE": str(folder)}
    for name, value in settings.items():
        prefix = "" if name.isupper() else "NPU_STAND_IN_"
        environment[prefix + name.upper()] = str(value)
    command = [sys.executable, "-m", "tests.cuda.stand_in", f"tests.cuda.{module}", case]
    result = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


class StandIn:
    """In such a process: what it counted and found."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(os.environ["NPU_CUDA_DRIVER"])
        for name in ("findings", "leaks"):
            getattr(self.library, f"stand_in_{name}").restype = ctypes.c_char_p
        self.library.stand_in_count.restype = ctypes.c_long

    def findings(self) -> str:
        return str(self.library.stand_in_findings().decode())

    def leaks(self) -> str:
        return str(self.library.stand_in_leaks().decode())

    def count(self, name: str) -> int:
        return int(self.library.stand_in_count(name.encode()))

    def set(self, name: str, value: object) -> None:
        assert self.library.stand_in_set(name.encode(), str(value).encode()) == 1

    def clear(self) -> None:
        self.library.stand_in_clear()

    def call(self, function: str, *arguments: object) -> None:
        result = getattr(self.library, function)(*arguments)
        assert result == 0, f"{function}: {result}"


if __name__ == "__main__":
    getattr(importlib.import_module(sys.argv[1]), sys.argv[2])()
