"""Many random programs on a device: ``python -m tests.random_programs --count 20000 --shard 3/8``.

Environment variables choose the rest: ``NPU_CPU_ISA``, ``NPU_CHECK_PLAN`` (1 unless it is set).
"""

from __future__ import annotations

import argparse
import os
import sys

from npu_runtime import Device

from .shrinking import run_many


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.random_programs", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="programs of all shards")
    parser.add_argument("--shard", default="1/1", help="which part of them, as in 3/8")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.environ.setdefault("NPU_CHECK_PLAN", "1")
    shard, shards = map(int, arguments.shard.split("/"))
    count = arguments.count // shards
    run_many(Device(arguments.device), count, seed=shard, threads=arguments.threads)
    print(f"{count} programs agree on {Device(arguments.device).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
