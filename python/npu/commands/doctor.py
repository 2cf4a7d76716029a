"""The command ``npu doctor``."""

from __future__ import annotations

import argparse
import json

from npu_base.errors import InvalidValueError

from npu.commands.arguments import json_argument

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu doctor",
    "npu doctor --kernels --device cuda",
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--kernels",
        action="store_true",
        help="compare the kernels of a GPU with the CPU on a sample of programs, about a minute; "
        "the exit status is 1 if any deviates or cannot be run",
    )
    p.add_argument("--device", help="the GPU for --kernels (default: the best available, else metal:emulated)")
    json_argument(p)


def run(args: argparse.Namespace) -> int:
    from npu.doctor import print_report, report, run_kernels

    if args.kernels:
        return run_kernels(args.device, args.json)
    if args.device:
        raise InvalidValueError("[npu] --device is the device whose kernels are checked; expected --kernels too")
    results = report()
    print(json.dumps(results, indent=2)) if args.json else print_report(results)
    return 0
