"""The commands of the project, also where it is not installed: `make test-cuda` uses an interpreter as it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from npu.cli import main

Run = Callable[..., str]
"""Runs ``npu`` in this process, and gives what it prints."""


def script(name: str) -> Path:
    """Of the folder in NPU_TEST_SCRIPTS, else of this interpreter's environment."""
    folder = os.environ.get("NPU_TEST_SCRIPTS")
    return Path(folder) / name if folder else Path(sys.executable).with_name(name)


def npu_in(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``npu`` in a folder, whose modules it may import; gives its standard output, or what it says of an error."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)

    def call(*arguments: object, code: int = 0) -> str:
        assert main([str(argument) for argument in arguments]) == code
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return printed.out if code == 0 else printed.err

    return call
