"""The command ``npu profile``."""

from __future__ import annotations

import argparse
from pathlib import Path

from npu_base.commands import integer
from npu_base.files import check_target, write_file

from npu.commands.arguments import run_arguments
from npu.commands.programs import open_module
from npu.commands.sources import WITH_IR, find_source

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu profile net.npu --html net.html",
    "npu profile my_models:Net --input 1,3,224,224 --by kernel",
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    run_arguments(p, WITH_IR)
    p.add_argument("--runs", type=integer(1, 10**9), default=20, help="the number of runs to measure (default: 20)")
    p.add_argument(
        "--by", choices=["op", "kernel"], default="op",
        help="the lines of the table: each step, or all steps of one kernel together (default: op)",
    )  # fmt: skip
    p.add_argument("--html", type=Path, metavar="FILE", help="write one HTML page that needs no network to FILE")
    p.add_argument("--trace", type=Path, metavar="FILE", help="write a Chrome trace of the last run to FILE")


def run(args: argparse.Namespace) -> int:
    source = find_source(args.source, WITH_IR, args.command)
    for file in (args.html, args.trace):
        if file is not None:
            check_target(file)  # before the work, which may take minutes
    if args.html is not None:
        from npu.pictures.page import check_bokeh

        check_bokeh()
    module, inputs = open_module(source, args)
    module.run_flat(inputs)  # prepares weights
    profiler = module.runner.profile(inputs, args.runs)
    profiler.print_summary(args.by)
    if args.trace is not None:
        profiler.save_chrome_trace(args.trace)
    if args.html is not None:
        from npu.pictures.measured import measured_from
        from npu.pictures.page import page_of

        page = page_of(measured_from(module, profiler, args.runs))
        write_file(args.html, page)
        print(f"{args.html}: {len(page) / 1e6:.1f} MB")
    return 0
