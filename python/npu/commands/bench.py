"""The command ``npu bench``."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

from npu_base.commands import integer

from npu.commands.arguments import json_argument, program_arguments
from npu.commands.programs import inputs_of, open_executor, weights_of

__all__ = ["add_arguments", "run"]


def add_arguments(p: argparse.ArgumentParser) -> None:
    program_arguments(p)
    p.add_argument("--runs", type=integer(1, 10**9), default=20, help="the number of runs to time (default: 20)")
    p.add_argument("--warmup", type=integer(0, 10**9), default=3, help="the number of runs before those (default: 3)")
    p.add_argument("--profile", action="store_true", help="also show the time of each kernel")
    p.add_argument("--trace", type=Path, metavar="FILE", help="write a Chrome trace of the last profiled run to FILE")
    json_argument(p)


def run(args: argparse.Namespace) -> int:
    from npu_runtime import Profiler

    executor, saved = open_executor(args)
    weights = weights_of(args, executor, saved)
    inputs = inputs_of(executor, args.seed, {})
    session = executor.session()
    session.run(inputs, weights)
    session.settle()
    for _ in range(args.warmup):
        session.run(inputs, weights)
    times = []
    for _ in range(args.runs):
        begin = time.perf_counter()
        session.run(inputs, weights)
        times.append((time.perf_counter() - begin) * 1e3)
    times.sort()
    figures: dict[str, Any] = {
        "program": executor.program.model_name,
        "device": executor.device.name,
        "threads": executor.threads,
        "runs": args.runs,
        "min_ms": times[0],
        "median_ms": median(times),
        "max_ms": times[-1],
    }
    profiler = Profiler(executor)
    if args.profile or args.trace:
        for _ in range(args.runs):
            profiler.run(inputs, weights)
        figures["profile"] = profiler.to_dict()["kernels"]
    if args.trace:
        profiler.save_chrome_trace(args.trace)
    if args.json:
        print(json.dumps(figures, indent=2))
        return 0
    print(f"{executor!r} on {executor.device.name}")
    print(f"min {times[0]:.3f} ms, median {figures['median_ms']:.3f} ms, max {times[-1]:.3f} ms over {args.runs} runs")
    if args.profile:
        profiler.print_summary("op")
    return 0
