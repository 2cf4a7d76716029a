"""The ``npu`` command. PyTorch is imported only to generate text and to read .pt files."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from npu_base.commands import CommandParser, run_command
from npu_runtime import __version__

__all__ = ["create_parser", "main"]

_COMMANDS = {
    "compile": ("npu.commands.compile", "compile a model into a saved file, or an IR into a program"),
    "run": ("npu.commands.run", "run a model once, on your own arrays or on random inputs"),
    "plan": ("npu.commands.plan", "show the plan of a model: its kernels, layouts and memory offsets"),
    "explain": ("npu.commands.explain", "show which nodes of a model can run on the device, and why others cannot"),
    "partition": ("npu.commands.partition", "show how a model is split between device and host, and the cost"),
    "compare": ("npu.comparison.command", "run a model on two devices step by step, and show where they differ"),
    "view": ("npu.commands.view", "write a model as a graph for Model Explorer, with device, time and bytes of nodes"),
    "profile": ("npu.commands.profile", "show where a model spends its time, as a table or a page"),
    "bench": ("npu.commands.bench", "measure how long a model takes"),
    "generate": ("npu.commands.generate", "generate text with a language model from a folder"),
    "quantize": ("npu.commands.quantize", "quantise the weights of a language model in a folder"),
    "chat": ("npu.commands.chat", "talk to a language model from a folder"),
    "doctor": ("npu.commands.doctor", "show what is installed, which devices are available, and why others are not"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(create_parser(), argv, (ValueError, RuntimeError, ImportError))


_EXAMPLES = (
    "npu compile my_models:Net --input 1,3,224,224 -o net.npu",
    "npu run net.npu --input image.npy -o outputs",
    "npu bench net.npu --profile",
    "npu explain my_models:Net --input 1,3,224,224",
    "npu chat Qwen/Qwen2.5-0.5B-Instruct",
)


def create_parser() -> CommandParser:
    parser = CommandParser(
        prog="npu", description="Compile PyTorch models, run them, and show what runs where and how fast.",
        epilog="`npu COMMAND --help` describes a command.",
    )  # fmt: skip
    parser.examples = _EXAMPLES
    parser.add_argument("--version", action="version", version=f"npu {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    for name, (module, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        implementation = importlib.import_module(module)
        command.set_defaults(run=implementation.run)
        command.examples = implementation.EXAMPLES
        implementation.add_arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
