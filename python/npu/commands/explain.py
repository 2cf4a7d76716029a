"""The command ``npu explain``."""

from __future__ import annotations

import argparse
import json

from npu.commands.arguments import ir_argument, json_argument

__all__ = ["add_arguments", "run"]


def add_arguments(p: argparse.ArgumentParser) -> None:
    ir_argument(p, "check")
    json_argument(p)


def run(args: argparse.Namespace) -> int:
    from npu.explanation import explain

    explanation = explain(args.ir)
    if args.json:
        print(json.dumps(explanation.to_dict(), indent=2))
    else:
        explanation.print()
    return 0 if explanation.whole else 1
