"""The command ``npu plan``."""

from __future__ import annotations

import argparse
from pathlib import Path

from npu_base.errors import InvalidValueError

from npu.commands.arguments import threads_argument
from npu.commands.programs import open_executor, open_program

__all__ = ["add_arguments", "run"]


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("program", type=Path, help="the program (.npubin) or saved file (.npu) to plan")
    p.add_argument(
        "--device",
        help="cpu, cuda, metal, or a chip on paper such as metal:m4pro or cuda:h200 (default: the best available)",
    )
    threads_argument(p)
    p.add_argument("--text", action="store_true", help="show the program itself, which is the same for all devices")


def run(args: argparse.Namespace) -> int:
    if args.text and (args.device or args.threads):
        option = "--device" if args.device else "--threads"
        raise InvalidValueError(
            f"[npu] --text shows the program itself, which is the same for all devices; got {option} too; "
            "expected only one of the two; try without --text, which shows the plan for a device"
        )
    if args.text:
        print(open_program(args)[0].text(), end="")
    else:
        print(open_executor(args)[0].plan(), end="")
    return 0
