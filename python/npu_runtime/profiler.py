"""Measures where a program spends its time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from npu_base.argument_types import RunInputs
from npu_base.files import write_file

from npu_runtime._core import Executor, KernelTime, NPUBuffer, Session, Weights
from npu_runtime.errors import InvalidTypeError, InvalidValueError, format_error

__all__ = ["KernelSummary", "ProfileResult", "Profiler", "print_rows", "profile"]


@dataclass(frozen=True)
class KernelSummary:
    """One kernel of the plan, or all kernels of one kind. Times are in milliseconds."""

    name: str
    calls: int
    total_ms: float
    average_us: float
    share: float
    gflops: float
    gbytes: float


class Profiler:
    """Runs a program and measures every kernel.

    ``run`` has the arguments and result of ``Executor.run``. Times accumulate over runs until ``clear()``.
    """

    def __init__(self, executor: Executor) -> None:
        if not isinstance(executor, Executor):
            raise _not_an_executor(executor)
        self.executor = executor
        self._session: Session = executor.session()
        self._runs = 0
        self._wall = 0.0

    def run(
        self, inputs: RunInputs, weights: Weights | None = None, donate: Iterable[str] | None = None
    ) -> dict[str, NPUBuffer]:
        begin = time.perf_counter()
        outputs = self._session.run(inputs, weights, donate, profile=True)
        self._wall += time.perf_counter() - begin
        self._runs += 1
        return outputs

    def clear(self) -> None:
        self._session.clear_times()
        self._runs, self._wall = 0, 0.0

    def times(self) -> list[KernelTime]:
        """Of each step of the plan, in its order."""
        return self._session.times()

    def summary(self, by: str = "kernel") -> list[KernelSummary]:
        """Slowest first; ``by`` is 'kernel' (all calls of one kind together) or 'op' (each step of the program)."""
        if by not in ("kernel", "op"):
            raise InvalidValueError(
                format_error("profiler", "the grouping is unknown", got=repr(by), expected="'kernel' or 'op'")
            )
        groups: dict[str, list[float]] = {}
        for t in self._session.times():
            row = groups.setdefault(getattr(t, by) if by == "kernel" else f"{t.op} ({t.kernel})", [0, 0, 0, 0])
            row[0] += t.calls
            row[1] += t.nanoseconds
            row[2] += t.flops * t.calls
            row[3] += t.bytes * t.calls
        total = sum(row[1] for row in groups.values()) or 1
        rows = [
            KernelSummary(name, int(n), ns / 1e6, ns / 1e3 / max(n, 1), ns / total, f / max(ns, 1), b / max(ns, 1))
            for name, (n, ns, f, b) in groups.items()
        ]
        return sorted(rows, key=lambda row: -row.total_ms)

    def print_summary(self, by: str = "kernel") -> None:
        """Print a table, slowest first, with a line for the total."""
        title = f"{self.executor.program.model_name}: {self._runs} run(s), {self._wall * 1e3:.2f} ms"
        print_rows(title, by, self.summary(by))

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.executor.program.model_name,
            "device": self.executor.device.name,
            "threads": self.executor.threads,
            "runs": self._runs,
            "wall_ms": self._wall * 1e3,
            "kernels": [asdict(row) for row in self.summary("op")],
        }

    def save_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """The last run as a trace for chrome://tracing or Perfetto."""
        write_file(path, json.dumps({"traceEvents": self.events(), "displayTimeUnit": "ms"}))

    def events(self) -> list[dict[str, Any]]:
        """The kernels of the last run, as a trace has them."""
        return [
            {
                "name": t.kernel,
                "cat": "kernel",
                "ph": "X",
                "ts": t.last_start / 1e3,
                "dur": t.last_nanoseconds / 1e3,
                "pid": 0,
                "tid": 0,
                "args": {"op": t.op, "flops": t.flops, "bytes": t.bytes},
            }
            for t in self._session.times()
        ]


def print_rows(title: str, by: str, rows: Sequence[KernelSummary]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title)
    for heading, justify in (("Kernel" if by == "kernel" else "Op", "left"), *((h, "right") for h in _COLUMNS)):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(escape(row.name), *_cells(row))
    table.add_section()
    total = sum(row.total_ms for row in rows)
    table.add_row("total", str(sum(row.calls for row in rows)), f"{total:.3f}", "", "100.0 %", "", "")
    console = Console()
    console = console if console.is_terminal else Console(width=140)
    console.print(table)


def _not_an_executor(executor: object) -> InvalidTypeError:
    got = type(executor).__name__
    return InvalidTypeError(
        format_error(
            "profiler",
            "executor has the wrong type",
            got=got,
            expected="an Executor",
            action="Executor(program, device)",
        )
    )


_COLUMNS = ("Calls", "Total (ms)", "Avg (us)", "Share", "GFLOP/s", "GB/s")


def _cells(row: KernelSummary) -> list[str]:
    rate = f"{row.gflops:.1f}" if row.gflops else ""
    return [
        str(row.calls),
        f"{row.total_ms:.3f}",
        f"{row.average_us:.1f}",
        f"{100 * row.share:.1f} %",
        rate,
        f"{row.gbytes:.1f}" if row.gbytes else "",
    ]


@dataclass(frozen=True)
class ProfileResult:
    """``total_ms`` is the mean of one run."""

    total_ms: float
    iterations: int


def profile(
    executor: Executor, inputs: RunInputs, weights: Weights | None = None, warmup: int = 3, iterations: int = 10
) -> ProfileResult:
    """The mean time of a whole run, measured from Python.

    Raises:
        InvalidValueError: the inputs or weights do not fit the program.
    """
    if not isinstance(executor, Executor):
        raise _not_an_executor(executor)
    if not all(isinstance(count, int) for count in (warmup, iterations)):
        got = f"{warmup!r} and {iterations!r}"
        raise InvalidTypeError(format_error("profiler", "warmup and iterations must be integers", got=got))
    if iterations < 1 or warmup < 0:
        raise InvalidValueError(
            format_error(
                "profiler",
                "warmup or iterations is out of range",
                got=f"{warmup} and {iterations}",
                expected="warmup >= 0 and iterations >= 1",
            )
        )
    run: Callable[[], Any] = lambda: executor.run(inputs, weights)  # noqa: E731
    for _ in range(warmup):
        run()
    begin = time.perf_counter()
    for _ in range(iterations):
        run()
    return ProfileResult((time.perf_counter() - begin) * 1e3 / iterations, iterations)
