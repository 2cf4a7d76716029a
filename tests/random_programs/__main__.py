"""Many random programs on a device: ``python -m tests.random_programs --count 20000 --shard 3/8``.

Environment variables choose the rest: ``NPU_CPU_ISA``, ``NPU_CHECK_PLAN`` (1 unless it is set).
"""

from __future__ import annotations

import argparse
import os
import re
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
    named = re.fullmatch(r"(\d+)/(\d+)", arguments.shard)
    shard, shards = (int(named[1]), int(named[2])) if named else (0, 0)
    if not 1 <= shard <= shards:
        parser.error(f"--shard must be such as 3/8, got {arguments.shard}")
    count = arguments.count // shards
    if count < 1 or arguments.threads < 1:
        parser.error("--count and --threads must be at least 1, and --count at least one for each shard")
    run_many(Device(arguments.device), count, seed=shard, threads=arguments.threads)
    print(f"{count} programs agree on {Device(arguments.device).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
