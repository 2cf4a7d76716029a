"""Cases that each run in a process of their own, over the stand-in for NVIDIA's driver and compiler that the C++ tests
build: kernels do not run in it, but what is done with memory and streams is judged."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "build" / "dev" / "tests" / "cpp" / "libnpu_cuda_stand_in.so"


class Case(NamedTuple):
    function: str
    settings: dict[str, object] = {}  # noqa: RUF012 - of the stand-in, or, in capitals, environment variables

    def environment(self, folder: str) -> dict[str, str]:
        environment = {"NPU_CUDA_DRIVER": str(LIBRARY), "NPU_NVRTC": str(LIBRARY), "NPU_CUDA_CACHE": folder}
        for name, value in self.settings.items():
            environment[name if name.isupper() else f"NPU_STAND_IN_{name.upper()}"] = str(value)
        return environment


def run_cases(module: str, cases: Mapping[str, Case], folder: Path) -> dict[str, str]:
    """Call functions of a module of this folder, each in a process of its own; returns what failing ones wrote."""
    if not LIBRARY.exists():
        pytest.skip(f"{LIBRARY.name} is not built; try: make cpp-test")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NPU_")}
    todo = {name: (case.function, case.environment(str(folder / name))) for name, case in cases.items()}
    command = [sys.executable, "-m", "tests.cuda.stand_in", f"tests.cuda.{module}", str(folder), json.dumps(todo)]
    result = subprocess.run(command, cwd=ROOT, env=clean, text=True, capture_output=True)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    failures: dict[str, str] = json.loads(result.stdout)
    return failures


def _fork_each(module: str, folder: Path, todo: Mapping[str, tuple[str, dict[str, str]]]) -> dict[str, str]:
    """Modules are imported once, before anything opens a device."""
    imported = importlib.import_module(module)
    failures = {}
    for name, (function, environment) in todo.items():
        log = folder / f"{name}.log"
        child = os.fork()
        if child == 0:
            with log.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            status = 1
            try:
                os.environ.update(environment)
                getattr(imported, function)()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        if os.waitpid(child, 0)[1] != 0:
            failures[name] = log.read_text() or "it crashed"
    return failures


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
    print(json.dumps(_fork_each(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))))
