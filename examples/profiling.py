"""See where the time of a model goes: by kernel, by layer, and as a trace.

python examples/profiling.py [--runs 10] [--threads 1] [--trace trace.json]

The trace opens in https://ui.perfetto.dev or chrome://tracing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import npu
import torch
from npu_runtime import Profiler
from resnet import trained_looking


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trace", type=Path, default=Path("trace.json"))
    args = parser.parse_args()
    torch.manual_seed(0)
    image = torch.randn(1, 3, 224, 224)
    compiled = npu.compile(trained_looking(), image, threads=args.threads)

    profiler = Profiler(compiled.executor)
    inputs = {"x": image}
    profiler.run(inputs, compiled.weights)  # the first run touches its memory for the first time
    profiler.clear()
    for _ in range(args.runs):
        profiler.run(inputs, compiled.weights)
    profiler.print_summary()

    steps = profiler.summary("op")
    total = sum(step.total_ms for step in steps)
    flops = sum(step.gflops * step.total_ms for step in steps)
    print(f"\n{total / args.runs:.2f} ms a run, {flops / total:.1f} GFLOP/s on the whole; the slowest steps:")
    for step in steps[:5]:
        print(
            f"  {100 * step.share:4.1f} %  {step.total_ms / args.runs:6.3f} ms  {step.gflops:6.1f} GFLOP/s  {step.name}"
        )

    profiler.save_chrome_trace(args.trace)
    events = json.loads(args.trace.read_text())["traceEvents"]
    print(f"wrote {args.trace}: {len(events)} kernels of the last run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
