"""The command ``npu bench``."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

from npu_base.commands import integer

from npu.commands.arguments import json_argument, run_arguments
from npu.commands.programs import open_runnable
from npu.commands.sources import ANY

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu bench net.npu --profile",
    "npu bench my_models:Net --input 8,3,224,224 --compute-dtype bfloat16 --runs 50 --json",
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    run_arguments(p, ANY)
    p.add_argument("--runs", type=integer(1, 10**9), default=20, help="the number of runs to time (default: 20)")
    p.add_argument("--warmup", type=integer(0, 10**9), default=3, help="the number of runs before those (default: 3)")
    p.add_argument("--profile", action="store_true", help="also show the time of each kernel")
    p.add_argument("--trace", type=Path, metavar="FILE", help="write a Chrome trace of the last profiled run to FILE")
    json_argument(p)


def run(args: argparse.Namespace) -> int:
    model = open_runnable(args)
    run_once = model.start()
    for _ in range(args.warmup):
        run_once()
    times = []
    for _ in range(args.runs):
        begin = time.perf_counter()
        run_once()
        times.append((time.perf_counter() - begin) * 1e3)
    times.sort()
    figures: dict[str, Any] = {
        "program": model.name,
        "device": model.device.name,
        "threads": model.threads,
        "runs": args.runs,
        "min_ms": times[0],
        "median_ms": median(times),
        "max_ms": times[-1],
    }
    profiler = model.profile(args.runs) if args.profile or args.trace else None
    if profiler is not None:
        figures["profile"] = profiler.to_dict()["kernels"]
    if profiler is not None and args.trace:
        profiler.save_chrome_trace(args.trace)
    if args.json:
        print(json.dumps(figures, indent=2))
        return 0
    print(f"{model!r} on {model.device.name}")
    print(f"min {times[0]:.3f} ms, median {figures['median_ms']:.3f} ms, max {times[-1]:.3f} ms over {args.runs} runs")
    if profiler is not None and args.profile:
        profiler.print_summary("op")
    return 0
