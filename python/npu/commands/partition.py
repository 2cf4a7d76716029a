"""The command ``npu partition``."""

from __future__ import annotations

import argparse
import json

from npu.commands.arguments import input_argument, json_argument, source_argument
from npu.commands.programs import ir_of
from npu.commands.sources import WITH_IR, find_source

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu partition my_models:Net --input 1,3,224,224",
    "npu partition model_ir.json --strategy cost",
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    source_argument(p, WITH_IR)
    input_argument(p, "the size of a model's input; may be repeated")
    p.add_argument(
        "--strategy",
        choices=["sequential", "cost"],
        default="sequential",
        help="keep the order of nodes, or reorder them for fewer transfers (default: sequential)",
    )
    p.add_argument("--strict", action="store_true", help="fail and list all reasons if any node would run on the host")
    json_argument(p)


def run(args: argparse.Namespace) -> int:
    import npu_compiler

    ir = ir_of(find_source(args.source, WITH_IR, args.command), args)
    report = npu_compiler.partition(ir, strategy=args.strategy, strict=args.strict).explain()
    print(json.dumps(report.to_dict(), indent=2) if args.json else report)
    return 0
