"""The ``npu`` command. PyTorch is imported only to generate text and to read .pt files."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from npu_base.commands import run_command
from npu_runtime import __version__

__all__ = ["create_parser", "main"]

_COMMANDS = {
    "compile": ("npu.commands.compile", "compile an IR file into an .npubin program"),
    "run": ("npu.commands.run", "run a program once, on your own arrays or on random inputs"),
    "plan": ("npu.commands.plan", "show the plan of a program: its kernels, layouts and memory offsets"),
    "explain": ("npu.commands.explain", "show which nodes of an IR can run on the device, and why others cannot"),
    "partition": ("npu.commands.partition", "show how an IR is split between device and host, and the cost"),
    "compare": ("npu.comparison.command", "run a program on two devices step by step, and show where they differ"),
    "bench": ("npu.commands.bench", "measure how long a program takes"),
    "generate": ("npu.commands.generate", "generate text with a language model from a folder"),
    "chat": ("npu.commands.chat", "talk to a language model from a folder"),
    "doctor": ("npu.commands.doctor", "show what is installed, which devices are available, and why others are not"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(create_parser(), argv, (ValueError, RuntimeError, ImportError))


def create_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="npu", description="Compile PyTorch models into programs, run them, and show what runs where and how fast."
    )
    parser.add_argument("--version", action="version", version=f"npu {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    for name, (module, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        implementation = importlib.import_module(module)
        command.set_defaults(run=implementation.run)
        implementation.add_arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
