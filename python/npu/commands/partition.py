"""The command ``npu partition``."""

from __future__ import annotations

import argparse
import json

from npu.commands.arguments import ir_argument, json_argument

__all__ = ["add_arguments", "run"]


def add_arguments(p: argparse.ArgumentParser) -> None:
    ir_argument(p, "partition")
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

    from npu.saving.model import ir_at

    report = npu_compiler.partition(ir_at(args.ir), strategy=args.strategy, strict=args.strict).explain()
    print(json.dumps(report.to_dict(), indent=2) if args.json else report)
    return 0
