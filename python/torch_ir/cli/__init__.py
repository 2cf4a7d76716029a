"""The ``torch-ir`` command. Nothing here imports PyTorch before a command needs it."""

from __future__ import annotations

from collections.abc import Sequence

from npu_base.commands import run_command

from .files import CommandError
from .parser import create_parser

__all__ = ["create_parser", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(create_parser(), argv, (CommandError,))
