"""The spinner of slow operations."""

from __future__ import annotations

import io
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import pytest
from torch_ir import progress
from torch_ir.progress import status


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(progress, "_DELAY", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def wait_for(stream: Terminal, text: str) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if text in stream.getvalue():
            return True
        time.sleep(0.01)
    return False


def test_nested_operations_share_one_spinner(terminal: Terminal) -> None:
    """Names in brackets are shown as they are: rich would take them for markup."""
    with redirect_stderr(terminal), status("Compiling [net]"):
        assert wait_for(terminal, "Compiling [net] ...")
        with status("Extracting net"):
            assert wait_for(terminal, "Extracting net ...")
        already = len(terminal.getvalue())
        end = time.monotonic() + 10
        while "Compiling" not in terminal.getvalue()[already:] and time.monotonic() < end:
            time.sleep(0.01)
        assert "Compiling [net] ..." in terminal.getvalue()[already:]


def test_standard_output_stays_what_it_is(terminal: Terminal) -> None:
    """Although it was another one when the spinner began."""
    before = sys.stdout
    with redirect_stderr(terminal), status("Importing"), redirect_stdout(sys.stderr):
        assert wait_for(terminal, "Importing ...")
        print("from the import")
    assert sys.stdout is before
    assert "from the import" in terminal.getvalue()


def test_quick_operations_and_files_show_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with redirect_stderr(terminal):
        with status("Quick"):
            pass
        time.sleep(0.1)
        monkeypatch.setattr(terminal, "isatty", lambda: False)
        with status("Into a file"):
            time.sleep(0.1)
    assert terminal.getvalue() == ""


def test_another_display_goes_on(terminal: Terminal) -> None:
    from rich.console import Console

    mine = Console(file=terminal, force_terminal=True).status("Mine")
    with redirect_stderr(terminal), mine, status("Inside"):
        assert wait_for(terminal, "Mine")
        time.sleep(0.1)
