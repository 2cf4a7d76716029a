"""The command ``npu plan``."""

from __future__ import annotations

import argparse

from npu_base.errors import InvalidValueError

from npu.commands.arguments import (
    compute_dtype_argument,
    input_argument,
    source_argument,
    threads_argument,
)
from npu.commands.programs import open_program
from npu.commands.sources import ANY

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu plan net.npu",
    "npu plan my_models:Net --input 1,3,224,224 --device metal:m4pro  # a chip that is not here",
    "npu plan model.npubin --text",
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    source_argument(p, ANY)
    input_argument(p, "the size of a model's input; may be repeated")
    p.add_argument(
        "--device",
        help="cpu, cuda, metal, or a chip on paper such as metal:m4pro or cuda:h200 (default: the best available)",
    )
    threads_argument(p)
    compute_dtype_argument(p)
    p.add_argument("--text", action="store_true", help="show the program itself, which is the same for all devices")


def run(args: argparse.Namespace) -> int:
    if args.text and (args.device or args.threads):
        option = "--device" if args.device else "--threads"
        raise InvalidValueError(
            f"[npu] --text shows the program itself, which is the same for all devices; got {option} too; "
            "expected only one of the two; try without --text, which shows the plan for a device"
        )
    program = open_program(args)
    if args.text:
        print(program.text(), end="")
        return 0
    from npu_runtime import Device, Executor

    print(Executor(program, Device(args.device), threads=args.threads).plan(), end="")
    return 0
