"""What a person at a terminal sees while kernels are compiled."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .stand_in import LIBRARY, ROOT

PROGRAM = """
import torch, npu_compiler
from npu_runtime import Device, Executor
from torch_ir import extract_ir

class Model(torch.nn.Module):
    def forward(self, x):
        return x.softmax(-1).sort(-1).values.cumsum(-1).sum(0)

program = npu_compiler.compile(extract_ir(Model(), torch.ones(70, 80)))
Executor(program, Device("cuda"), threads=1)
"""


def environment(folder: Path, milliseconds: int) -> dict[str, str]:
    """Each kernel takes so long to compile."""
    return {
        **os.environ,
        "NPU_CUDA_DRIVER": str(LIBRARY),
        "NPU_NVRTC": str(LIBRARY),
        "NPU_CUDA_CACHE": str(folder),
        "NPU_STAND_IN_COMPILE_MS": str(milliseconds),
    }


def seen(folder: Path, milliseconds: int) -> str:
    """By a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment(folder, milliseconds), stderr=theirs
    )
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 4096):
            text += part
    except OSError:  # Linux says so when nobody has the other end any more
        pass
    os.close(ours)
    assert process.wait() == 0, text.decode()
    return text.decode()


@pytest.mark.skipif(not LIBRARY.exists(), reason=f"{LIBRARY.name} is not built; try: make cpp-test")
def test_only_what_takes_long_is_shown(tmp_path: Path) -> None:
    slow = seen(tmp_path, 1100)
    assert "compiling kernels for the GPU: 1 of " in slow
    assert slow.endswith("\x1b[K")  # nothing of it stays
    assert "compiling" not in seen(tmp_path, 1100)  # they are in the cache now
    assert "compiling" not in seen(tmp_path / "other", 0)


INTERRUPTED = PROGRAM.replace("\nExecutor", "\nprint('compiling', flush=True)\nExecutor").replace(
    "threads=1)", "threads=1)\nprint('compiled all')"
)


@pytest.mark.skipif(not LIBRARY.exists(), reason=f"{LIBRARY.name} is not built; try: make cpp-test")
def test_control_c_ends_it_after_the_kernels_in_hand(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        cwd=ROOT,
        env=environment(tmp_path, 3000),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "compiling\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "compiled all" not in out
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode in (-signal.SIGINT, 130)
