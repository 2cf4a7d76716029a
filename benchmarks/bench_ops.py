"""Every case of the table of ops (``tests/ops``) at three sizes, with eager PyTorch.

Prints what takes longer than eager PyTorch. Results that are views of an input are copied on both sides: a program's
results are tensors of their own. With one thread, times are those of the thread on the processor, which other processes
disturb less; with two, they are those of the clock.
"""

from __future__ import annotations

import fnmatch
import logging
import math
import signal
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common

SIZES = {"L1": 16 << 10, "L2": 512 << 10, "large": 16 << 20}
DTYPES = ("float32", "bfloat16", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
ROUNDS = 5
LONGEST = 10  # seconds of processor time that compiling a case may take: some unroll a dimension that grows


def thousandths(call: Callable[[], Any], count: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(count):
        call()
    return (clock() - start) / count * 1e3


def compare(ours: Callable[[], Any], theirs: Callable[[], Any], threads: int, rounds: int) -> dict[str, float]:
    """Milliseconds of both, alternately; the ratio is the median of those of the rounds."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    ours(), theirs()
    once = max(thousandths(ours, 1, clock), thousandths(theirs, 1, clock))
    count = max(1, min(2000, math.ceil(0.6 / max(once, 1e-4))))
    thousandths(ours, count, clock), thousandths(theirs, count, clock)
    pairs = [(thousandths(ours, count, clock), thousandths(theirs, count, clock)) for _ in range(rounds)]
    return {
        "ours": statistics.median(a for a, _ in pairs),
        "theirs": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(a / b for a, b in pairs),
    }


def program_call(case: Any, threads: int) -> Callable[[], Any]:
    import npu_compiler
    from npu_runtime import Device, Executor, NPUBuffer, load_weights
    from torch_ir import extract_ir

    program = npu_compiler.compile(extract_ir(case.model, case.inputs))
    device = Device("cpu")
    executor = Executor(program, device, threads=threads)
    weights = load_weights(case.model.state_dict(), program, device)
    executor.prepare(weights)
    by_name = {
        spec.name: NPUBuffer.from_dlpack(x.contiguous())
        for spec, x in zip(program.input_specs, case.inputs, strict=True)
    }
    run = executor.session().run
    return lambda: run(by_name, weights)


def eager_call(case: Any) -> Callable[[], Any]:
    """Views of inputs become tensors of their own: what a program returns too."""
    import torch
    from torch.utils import _pytree as pytree

    model, inputs = case.model, tuple(x.contiguous() for x in case.inputs)
    call = getattr(model, "function", model)
    with torch.inference_mode():
        result = pytree.tree_leaves(call(*inputs))
    memories = {x.untyped_storage().data_ptr() for x in inputs}
    dense = [x.is_contiguous() for x in result]
    views = [x.untyped_storage().data_ptr() in memories for x in result]
    if not any(views) and all(dense):
        return lambda: call(*inputs)

    def copied() -> Any:
        result = pytree.tree_leaves(call(*inputs))
        return [
            x.clone(memory_format=torch.contiguous_format) if view else x.contiguous()
            for x, view in zip(result, views, strict=True)
        ]

    return copied


class TooLongError(Exception):
    pass


def _too_long(*_: Any) -> None:
    raise TooLongError


def timed(case: Any, threads: int, rounds: int) -> dict[str, float] | str:
    """The figures, or why there are none."""
    import torch

    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        ours = program_call(case, threads)
    except TooLongError:
        return "too long to compile"
    except Exception as error:  # whatever a dtype that the table does not list is refused with
        return f"not compiled: {str(error).splitlines()[0][:90]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    theirs = eager_call(case)
    with torch.inference_mode():
        figures = compare(ours, theirs, threads, rounds)
        if figures["ratio"] > 1.0:
            more = [figures, *(compare(ours, theirs, threads, rounds) for _ in range(3))]
            more.sort(key=lambda m: m["ratio"])
            figures = {key: statistics.median(m[key] for m in more) for key in figures}
    return figures


def roofline(case: Any, figures: dict[str, float], threads: int, limits: Any) -> float:
    """How many times the limit of memory or arithmetic the program takes; 0 where the least work is unknown."""
    if not case.bytes:
        return 0.0
    least = max(case.flops / limits.fma_gflops, case.bytes / limits.read_gbytes) * 1e-6
    return figures["ours"] / least


def main() -> int:
    p = common.parser(__doc__ or "")
    p.set_defaults(repeats=ROUNDS)
    p.add_argument("--only", action="append", metavar="NAME", help="cases, such as 'cumsum*' (may be repeated)")
    p.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    p.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    p.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    p.add_argument("--above", type=float, default=1.0, help="print what is above this ratio (default: %(default)s)")
    args = p.parse_args()

    import torch
    from npu_runtime import _core

    from benchmarks.op_scaling import every_case, family, in_dtype, names

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, _too_long)
    wanted = lambda name: not args.only or any(fnmatch.fnmatch(name, o) for o in args.only)  # noqa: E731
    if not any(map(wanted, names())):
        p.error(f"no case has a name like {', '.join(args.only)}; names are those of tests/ops, as in 'cumsum*'")
    limits = {t: _core.measure_limits(t) for t in args.threads}
    results: list[dict[str, Any]] = []
    skipped: Counter[str] = Counter()
    program_call(family("add", 1024), 1)  # imports what compiling needs, which no timer may interrupt
    start = time.time()
    for size in args.sizes:
        for name, case in every_case(SIZES[size], wanted):
            if case is None:
                skipped["does not scale"] += 1
                continue
            for dtype in args.dtypes:
                typed = in_dtype(case, getattr(torch, dtype))
                if typed is None:
                    continue
                for threads in args.threads:
                    torch.set_num_threads(threads)
                    figures = timed(typed, threads, args.repeats)
                    if isinstance(figures, str):
                        skipped[figures] += 1
                        continue
                    row = {"name": name, "size": size, "dtype": dtype, "threads": threads, **figures}
                    row["roofline"] = roofline(typed, figures, threads, limits[threads])
                    row["shapes"] = [list(x.shape) for x in typed.inputs]
                    results.append(row)
            print(f"\r{time.time() - start:6.0f} s  {size}  {len(results)} measured  {name:60.60}", end="",
                  file=sys.stderr)  # fmt: skip
    print(file=sys.stderr)
    show(args, results, skipped, limits)
    return 0


def show(args: Any, results: list[dict[str, Any]], skipped: Counter[str], limits: dict[int, Any]) -> None:
    above = sorted((r for r in results if r["ratio"] > args.above), key=lambda r: -r["ratio"])
    columns = ["Op", "size", "dtype", "threads", "ours, us", "eager, us", "ratio", "x limit"]
    figures = {"cases": results, "skipped": skipped}
    best = [r for r in results if r["roofline"]]

    def rows(of: list[dict[str, Any]]) -> list[list[str]]:
        return [[r["name"] + " " + str(r["shapes"])[:60].replace("[", "(").replace("]", ")"), r["size"], r["dtype"],
                 str(r["threads"]) + ("" if r["threads"] == 1 else " (clock)"),
                 f"{r['ours'] * 1e3:.1f}", f"{r['theirs'] * 1e3:.1f}", f"{r['ratio']:.2f}",
                 f"{r['roofline']:.2f}" if r["roofline"] else ""] for r in of]  # fmt: skip

    if best:
        text = ", ".join(
            f"{t} threads: {m.fma_gflops:.0f} GFLOP/s, {m.read_gbytes:.1f} GB/s" for t, m in limits.items()
        )
        common.report(f"the most used ops; limit with {text}", columns, rows(best), figures, None)
    title = f"{len(above)} of {len(results)} above {args.above} times eager PyTorch"
    common.report(title, columns, rows(above), figures, args.json)
    for reason, count in skipped.most_common():
        print(f"skipped {count}: {reason}")


if __name__ == "__main__":
    sys.exit(main())
