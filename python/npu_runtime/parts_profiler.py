"""Measures where a partitioned model spends its time, on the device and on the host."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from npu_base.files import write_file

from npu_runtime.dag_executor import DAGExecutor
from npu_runtime.host import as_numpy
from npu_runtime.profiler import KernelSummary, Profiler, print_rows

__all__ = ["PartsProfiler"]


class PartsProfiler:
    """Runs the parts of a ``DAGExecutor`` one after another, and measures every kernel and every part of the host.

    Like a ``Profiler``, it does not change the state. Times accumulate over runs until ``clear()``. Those of the host
    include fetching what the device computed.
    """

    def __init__(self, dag: DAGExecutor) -> None:
        self.dag = dag
        self._profilers = {number: Profiler(executor) for number, executor in dag.executors.items()}
        self._names = {number: _name_of(part.ir) for number, part in dag.host_parts.items()}
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        for profiler in self._profilers.values():
            profiler.clear()
        self._runs, self._wall = 0, 0.0
        self._host_ns: dict[int, list[int]] = {number: [] for number in self._names}
        self._starts: dict[int, int] = {}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            values = self.dag.values_before(inputs)
            begin = time.perf_counter_ns()
            for part in self.dag.parts:
                number = part.partition_id
                self._starts[number] = time.perf_counter_ns() - begin
                if number in self._profilers:
                    given = {name: values[name] for name in self.dag.input_names(part)}
                    outputs = self._profilers[number].run(given, self.dag.weights_of(part))
                    values |= {name: outputs[name] for name in part.output_names}
                else:
                    values |= self._run_host(number, values)
            self._wall += (time.perf_counter_ns() - begin) / 1e9
            self._runs += 1
            return values

    def _run_host(self, number: int, values: Mapping[str, Any]) -> dict[str, Any]:
        host = self.dag.host_parts[number]
        written = set(host.updates.values())  # in place, which must not reach the caller's tensors
        given = [as_numpy(values[n]).copy() if n in written else values[n] for n in host.input_names]
        start = time.perf_counter_ns()
        results = host.call(given)
        self._host_ns[number].append(time.perf_counter_ns() - start)
        return dict(zip(host.output_names, results, strict=True))

    def starts(self) -> list[tuple[Any, int]]:
        """The parts in the order of the last run, and when each began, in nanoseconds."""
        return [(part, self._starts[part.partition_id]) for part in self.dag.parts if part.partition_id in self._starts]

    def of_part(self, number: int) -> Profiler:
        """Of a part on the device."""
        return self._profilers[number]

    def host_nanoseconds(self, number: int) -> list[int]:
        """What a part of the host took in each run."""
        return list(self._host_ns[number])

    def name_of(self, number: int) -> str:
        """What summaries call a part of the host."""
        return self._names[number]

    def summary(self, by: str = "kernel") -> list[KernelSummary]:
        """As ``Profiler.summary``; the name of a part of the host starts with "host: "."""
        rows: dict[str, KernelSummary] = {}
        for profiler in self._profilers.values():
            for row in profiler.summary(by):
                rows[row.name] = _joined(rows[row.name], row) if row.name in rows else row
        for number, times in self._host_ns.items():
            total = sum(times)
            row = KernelSummary(self._names[number], len(times), total / 1e6, total / 1e3 / max(len(times), 1), 0, 0, 0)
            rows[row.name] = _joined(rows[row.name], row) if row.name in rows else row
        whole = sum(row.total_ms for row in rows.values()) or 1
        return sorted((replace(r, share=r.total_ms / whole) for r in rows.values()), key=lambda row: -row.total_ms)

    def print_summary(self, by: str = "kernel") -> None:
        """Print a table, slowest first, with a line for the total."""
        name = self.dag.plan.original_ir.get("model_name", "")
        print_rows(f"{name}: {self._runs} run(s), {self._wall * 1e3:.2f} ms", by, self.summary(by))

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.dag.plan.original_ir.get("model_name", ""),
            "device": self.dag.backend.device.name,
            "runs": self._runs,
            "wall_ms": self._wall * 1e3,
            "kernels": [asdict(row) for row in self.summary("op")],
        }

    def save_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """The last run as a trace for chrome://tracing or Perfetto, the host in a row of its own."""
        events: list[dict[str, Any]] = []
        for number, start in self._starts.items():
            if number in self._profilers:
                events += [{**e, "ts": e["ts"] + start / 1e3} for e in self._profilers[number].events()]
            else:
                duration = self._host_ns[number][-1] / 1e3
                event = {"name": self._names[number], "cat": "host", "ph": "X", "ts": start / 1e3, "dur": duration}
                events.append({**event, "pid": 0, "tid": 1})
        write_file(path, json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))


def _name_of(ir: Mapping[str, Any]) -> str:
    counts = Counter(node["op_type"].removeprefix("aten.").removesuffix(".default") for node in ir["nodes"])
    ops = [f"{op} x{count}" if count > 1 else op for op, count in counts.most_common(3)]
    return f"host: {', '.join(ops)}" + (f" and {len(counts) - 3} more" if len(counts) > 3 else "")


def _joined(a: KernelSummary, b: KernelSummary) -> KernelSummary:
    calls, total = a.calls + b.calls, a.total_ms + b.total_ms
    gflops, gbytes = (
        (getattr(a, rate) * a.total_ms + getattr(b, rate) * b.total_ms) / (total or 1) for rate in ("gflops", "gbytes")
    )
    return KernelSummary(a.name, calls, total, total * 1e3 / max(calls, 1), a.share, gflops, gbytes)
