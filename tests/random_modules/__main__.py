"""See modules.py."""

from __future__ import annotations

import argparse
import sys
import time

from tests.support.devices import chosen_device

from .modules import check
from .worker import workers


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.random_modules", description="Run random modules.")
    parser.add_argument("--count", type=int, default=1000, help="how many modules (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first one (default: 0)")
    options = parser.parse_args()
    if options.count < 1 or options.seed < 0:
        parser.error("--count must be at least 1, and --seed at least 0")
    others = workers() if chosen_device().kind == "cpu" else []
    begin, wrong = time.monotonic(), 0
    for seed in range(options.seed, options.seed + options.count):
        found = check(seed, others)
        if found is not None:
            wrong += 1
            print(found, flush=True)
        if (seed - options.seed + 1) % 500 == 0:
            took = time.monotonic() - begin
            print(f"... {seed - options.seed + 1} modules, {wrong} wrong, {took:.0f} s", file=sys.stderr, flush=True)
    for worker in others:
        worker.close()
    on = ", ".join(worker.isa for worker in others) or str(chosen_device())
    print(f"{options.count} modules on {on}: {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
