"""The command ``npu explain``."""

from __future__ import annotations

import argparse
import json

from npu.commands.arguments import input_argument, json_argument, source_argument
from npu.commands.programs import ir_of
from npu.commands.sources import WITH_IR, find_source

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu explain my_models:Net --input 1,3,224,224",
    "npu explain model_ir.json --json",
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    source_argument(p, WITH_IR)
    input_argument(p, "the size of a model's input; may be repeated")
    json_argument(p)


def run(args: argparse.Namespace) -> int:
    from npu.explanation import explain

    explanation = explain(ir_of(find_source(args.source, WITH_IR, args.command), args))
    if args.json:
        print(json.dumps(explanation.to_dict(), indent=2))
    else:
        explanation.print()
    return 0 if explanation.whole else 1
