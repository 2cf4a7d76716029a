"""``python -m tests.models.zoo``: run the zoo and print a table.

``--full`` takes the full-size models too; a name, or a part of one, takes only those that match.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import torch

from .harness import DTYPES, ZooEntry, ZooResult, check

_ROW = "{:<34} {:>5} {:>9}  {:<6} {:<6} {}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.models.zoo", description="Prove torch_ir on real models.")
    parser.add_argument("names", nargs="*", help="only models whose name contains one of these")
    parser.add_argument("--full", action="store_true", help="full-size models too")
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)  # models warn about their own configurations

    from .huggingface_models import ENTRIES as HUGGINGFACE
    from .huggingface_models import FULL_SIZE as HUGGINGFACE_FULL
    from .torchvision_models import ENTRIES as TORCHVISION
    from .torchvision_models import FULL_SIZE as TORCHVISION_FULL

    entries = [*TORCHVISION, *HUGGINGFACE]
    if args.full:
        entries += [*TORCHVISION_FULL, *HUGGINGFACE_FULL]
    entries = [e for e in entries if _wanted(e.name, args.names)]
    print(_ROW.format("model", "nodes", "extract", "f32", "bf16", ""))
    failed = sum(not _print_row(e) for e in entries)
    listed = _print_unexportable(args.names)
    print(f"\n{len(entries) - failed} of {len(entries)} passed; {listed} cannot be extracted")
    return 1 if failed or not (entries or listed) else 0


def _wanted(name: str, parts: Sequence[str]) -> bool:
    return not parts or any(p.lower() in name.lower() for p in parts)


def _print_row(entry: ZooEntry) -> bool:
    results = {dtype: check(entry, dtype) for dtype in entry.dtypes}
    verdicts = [_verdict(results.get(dtype)) for dtype in DTYPES]
    first = next(iter(results.values()))
    reasons = {r.reason.strip().splitlines()[0][:200] for r in results.values() if r.reason}
    seconds = f"{first.extract_seconds:.2f} s"
    print(_ROW.format(entry.name, first.nodes, seconds, *verdicts, "; ".join(sorted(reasons))).rstrip(), flush=True)
    return not reasons


def _verdict(result: ZooResult | None) -> str:
    if result is None:
        return "-"
    return "FAIL" if result.reason else "PASS"


def _print_unexportable(parts: Sequence[str]) -> int:
    from .unexportable import UNEXPORTABLE

    rows = [u for u in UNEXPORTABLE if _wanted(u.entry.name, parts)]
    for u in rows:
        verdicts = ["none" if d in u.dtypes else "-" for d in (torch.float32, torch.bfloat16)]
        print(_ROW.format(u.entry.name, "", "", *verdicts, u.reason))
    return len(rows)


if __name__ == "__main__":
    sys.exit(main())
