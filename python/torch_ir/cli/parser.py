"""The command line's grammar and help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from npu_base.commands import CommandParser

from .commands import run_diff, run_info, run_verify, run_visualize

_EXAMPLES = (
    "torch-ir info model_ir.json",
    "torch-ir visualize model_ir.json -o graph.png",
    "torch-ir visualize qwen_ir.json --fold --expand model.layers.0",
    "torch-ir verify model_ir.json --model my_package.models:MyModel --weights weights.safetensors",
    "torch-ir diff before.json after.json",
)
_INFO_EXAMPLES = ("torch-ir info model_ir.json", "torch-ir info model_ir.json --json -o summary.json")
_VISUALIZE_EXAMPLES = (
    "torch-ir visualize model_ir.json                  # Mermaid text, first 30 nodes",
    "torch-ir visualize model_ir.json --max-nodes 0    # all nodes",
    "torch-ir visualize model_ir.json -o graph.svg     # a rendered diagram",
    "torch-ir visualize qwen_ir.json --fold            # one box per module, identical layers merged",
    "torch-ir visualize qwen_ir.json --fold --depth 3",
    "torch-ir visualize qwen_ir.json --expand model.layers.0 --expand 'model.layers.0.self_attn'",
)
_VERIFY_EXAMPLES = (
    "torch-ir verify model_ir.json --model my_models:MyModel",
    "torch-ir verify model_ir.json --model my_models:build --weights weights.safetensors --inputs batch.npz",
    "torch-ir verify model_ir.json --model my_models:MyModel --per-layer",
)
_DIFF_EXAMPLES = ("torch-ir diff before.json after.json", "torch-ir diff before.json after.json --json")

_VISUALIZE = 'PNG and SVG need the extra `rendering`: pip install "npu-simulation[rendering]". No network is needed.'

_VERIFY = """The model is imported from the current folder or from installed packages. ATTRIBUTE is an
nn.Module class or a function, which is called without arguments, or an nn.Module object. Without --weights,
the model keeps the values it was built with. Without --inputs, inputs are random.

exit status: 0 if the results agree, 1 if they differ, 2 if verification failed"""

_DIFF = """Nodes are matched by operator, module and result, so renaming a node is not a difference.

exit status: 0 if the graphs are the same, 1 if they differ, 2 on an error"""


class _Version(argparse.Action):
    """Imports the version only when it is needed."""

    def __init__(self, option_strings: list[str], dest: str, **kwargs: object) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from torch_ir import __version__

        print(f"torch-ir {__version__}")
        parser.exit()


def create_parser() -> CommandParser:
    parser = CommandParser(
        prog="torch-ir",
        description="Inspect, draw, verify and compare IR files, the graphs of models.",
        epilog="`torch-ir COMMAND --help` describes a command.",
    )
    parser.examples = _EXAMPLES
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add_info(commands)
    _add_visualize(commands)
    _add_verify(commands)
    _add_diff(commands)
    return parser


_Commands = argparse._SubParsersAction


def _command(
    commands: _Commands[CommandParser], name: str, text: str, examples: Sequence[str], more: str = ""
) -> CommandParser:
    command = commands.add_parser(
        name, help=text, description=text, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.examples = examples
    return command


def _add_info(commands: _Commands[CommandParser]) -> None:
    p = _command(commands, "info", "Show the inputs, outputs and operators of a graph.", _INFO_EXAMPLES)
    p.add_argument("ir", metavar="IR", help="the IR file (.json)")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")
    p.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of stdout")
    p.set_defaults(run=run_info, trouble=1)


def _add_visualize(commands: _Commands[CommandParser]) -> None:
    p = _command(commands, "visualize", "Draw a graph as Mermaid text, PNG or SVG.", _VISUALIZE_EXAMPLES, _VISUALIZE)
    p.add_argument("ir", metavar="IR", help="the IR file (.json)")
    p.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write to FILE: an image if its name ends in .png or .svg, otherwise Mermaid text",
    )
    p.add_argument(
        "--max-nodes", type=_count, metavar="N",
        help="draw the first N nodes (default: 30), or the first N boxes if folded (default: all); 0 draws all",
    )  # fmt: skip
    p.add_argument("--no-weights", action="store_true", help="leave out the weights")
    folding = p.add_argument_group("folding by module, for large graphs")
    folding.add_argument("--fold", "--group-by-module", action="store_true", help="draw one box per module")
    folding.add_argument(
        "--depth",
        type=_positive,
        metavar="N",
        help="draw N levels of modules (default: chosen automatically)",
    )
    folding.add_argument(
        "--expand", action="append", default=[], metavar="MODULE",
        help="draw the operators of this module, such as model.layers.0 or 'model.layers.*'; may be repeated",
    )  # fmt: skip
    folding.add_argument("--no-collapse", action="store_true", help="draw identical neighbours separately")
    p.set_defaults(run=run_visualize, trouble=1)


def _add_verify(commands: _Commands[CommandParser]) -> None:
    p = _command(commands, "verify", "Run a graph and its model, and compare the results.", _VERIFY_EXAMPLES, _VERIFY)
    p.add_argument("ir", metavar="IR", help="the IR file (.json)")
    p.add_argument(
        "--model", required=True, metavar="MODULE:ATTRIBUTE", help="the model: an attribute of a Python module"
    )
    p.add_argument("--weights", metavar="FILE", help="the weights to load into both (.safetensors, .pt, .pth, .bin)")
    p.add_argument("--inputs", metavar="FILE", help="the inputs, by name or in order (.npz, .safetensors, .pt)")
    p.add_argument(
        "--seed", type=int, default=0, metavar="N", help="the seed of random weights and inputs (default: 0)"
    )
    p.add_argument(
        "--rtol", type=_tolerance, metavar="X", help="the relative tolerance (default: depends on the dtype)"
    )
    p.add_argument(
        "--atol", type=_tolerance, metavar="X", help="the absolute tolerance (default: depends on the dtype)"
    )
    p.add_argument(
        "--per-layer", action="store_true", help="compare node by node, and name the first node that differs"
    )
    p.add_argument("--json", action="store_true", help="print the report as JSON")
    p.set_defaults(run=run_verify, trouble=2)


def _add_diff(commands: _Commands[CommandParser]) -> None:
    p = _command(commands, "diff", "Show the differences between two graphs.", _DIFF_EXAMPLES, _DIFF)
    p.add_argument("left", metavar="A", help="the first IR file (.json)")
    p.add_argument("right", metavar="B", help="the second IR file (.json)")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")
    p.set_defaults(run=run_diff, trouble=2)


def _number(text: str, low: int, what: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low:
        raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}")
    return value


def _count(text: str) -> int:
    return _number(text, 0, "a whole number, 0 or more")


def _positive(text: str) -> int:
    return _number(text, 1, "a whole number, 1 or more")


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number, 0 or more, got {text!r}")
    return value
