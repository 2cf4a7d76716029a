"""The command ``npu compile``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from npu_base.errors import InvalidValueError

from npu.commands.arguments import ir_argument

__all__ = ["add_arguments", "run"]


def add_arguments(p: argparse.ArgumentParser) -> None:
    ir_argument(p, "compile")
    p.add_argument(
        "-o", "--output", type=Path, help="the file to write (default: the name of the IR file with .npubin)"
    )
    p.add_argument("--compute-dtype", choices=["float16", "bfloat16"], help="compute a float32 model in this dtype")
    p.add_argument(
        "--disable", action="append", default=[], metavar="PASS", help="disable a compiler pass; may be repeated"
    )
    p.add_argument(
        "--exact", action="store_true", help="round half-precision results after every op, as eager PyTorch does"
    )


def run(args: argparse.Namespace) -> int:
    import npu_compiler

    begin = time.perf_counter()
    program = npu_compiler.compile(args.ir, compute_dtype=args.compute_dtype, disable=args.disable, exact=args.exact)
    output = args.output or args.ir.with_suffix(".npubin")
    if output.exists() and output.samefile(args.ir):
        raise InvalidValueError(
            f"[npu] the program would overwrite the IR file; got {output} for both; try another --output"
        )
    program.save(output)
    took = (time.perf_counter() - begin) * 1e3
    print(f"{output}: {program!r}, {output.stat().st_size:,} bytes, {took:.0f} ms")
    return 0
