"""What the benchmarks share: machine facts, paired timing, peak memory, a table and a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPEATS = 7


def machine() -> dict[str, Any]:
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
    }


def seconds(fn: Callable[[], Any]) -> float:
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def paired(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int = REPEATS) -> dict[str, Any]:
    """Both in turn, so that a machine whose speed drifts drifts for both; the ratio is taken pair by pair."""
    ours(), theirs()
    pairs = []
    for i in range(repeats):
        # Who goes first alternates: the second finds warm caches.
        if i % 2:
            b, a = seconds(theirs), seconds(ours)
        else:
            a, b = seconds(ours), seconds(theirs)
        pairs.append((a, b))
    ratios = sorted(a / b for a, b in pairs)
    return {
        "ours": statistics.median(a for a, _ in pairs),
        "theirs": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios),
        "ratio_range": [ratios[0], ratios[-1]],
    }


def peak_during(fn: Callable[[], Any]) -> int:
    """Bytes by which resident memory grew at most while ``fn`` ran."""
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        import resource

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        fn()
        unit = 1 if sys.platform == "darwin" else 1024
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    _return_free_memory()
    clear.write_text("5")
    before = _status("VmRSS")
    fn()
    return _status("VmHWM") - before


def _return_free_memory() -> None:
    """What an earlier run freed would hide what this one takes."""
    import ctypes
    import gc

    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def peak_resident() -> int | None:
    """Bytes that this process had in memory at most, with the pages of mapped files that it has read."""
    return _status("VmHWM") if Path("/proc/self/status").exists() else None


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def in_child(script: str, *arguments: str) -> Any:
    """Run this benchmark's own script with other arguments and read the JSON it prints last."""
    # Blocks from this size on are mapped each on its own, so that freeing one really gives it back.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise RuntimeError(f"{script} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(title: str, columns: list[str], rows: list[list[str]], results: dict[str, Any], out: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    facts = machine()
    console = Console() if sys.stdout.isatty() else Console(width=140)
    table = Table(title=title, title_justify="left", caption_justify="left",
                  caption=f"{facts['cpu']}, {facts['threads']} threads, load {facts['load']:.2f}, "
                          f"torch {facts['torch']}, Python {facts['python']}")  # fmt: skip
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if out:
        Path(out).write_text(json.dumps({"machine": facts, "results": results}, indent=2) + "\n")


def parser(description: str) -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--json", metavar="FILE", help="also write the figures and the machine's facts to FILE")
    p.add_argument("--repeats", type=int, default=REPEATS, help="pairs of runs (default: %(default)s)")
    p.add_argument("--child", help=argparse.SUPPRESS)
    return p


def ratio_text(result: dict[str, Any]) -> str:
    low, high = result["ratio_range"]
    return f"{result['ratio']:.3f} ({low:.2f}-{high:.2f})"
