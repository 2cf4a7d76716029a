"""The committed type stub is what the compiled extension gives."""

import subprocess
import sys
from pathlib import Path

import npu_runtime
import pytest
from npu_runtime import _core

STUB = Path(npu_runtime.__file__).with_name("_core.pyi")


def test_committed_stub_is_current(tmp_path):
    pytest.importorskip("nanobind")
    generated = tmp_path / "_core.pyi"
    folder = Path(_core.__file__).parent
    command = [sys.executable, "-m", "nanobind.stubgen", "-q", "-i", folder, "-m", "_core", "-o", generated]
    subprocess.run(list(map(str, command)), check=True)
    assert STUB.read_text() == generated.read_text(), (
        "python/npu_runtime/_core.pyi is stale; copy build/dev/cpp/bindings/_core.pyi over it"
    )


def test_every_name_is_in_the_stub():
    text = STUB.read_text()
    for name in (name for name in dir(_core) if not name.startswith("_")):
        assert name in text


def test_typed_marker():
    assert Path(npu_runtime.__file__).with_name("py.typed").exists()
