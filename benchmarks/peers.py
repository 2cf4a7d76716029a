"""Several systems timed side by side in one run, each in a process of its own.

All but the one being timed are stopped; the driver goes round over them forwards and backwards, with a probe of the
machine's own speed before and after each block, so that a slow or busy machine hits all alike. A peer that is not
installed is left out and named.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from benchmarks import common

Run = Callable[[], Any]
# Set for workers that count the processor's time for them: with one thread, other processes then matter little.
PROCESSOR_TIME = "PEERS_PROCESSOR_TIME"


def serve(prepare: Callable[[str], tuple[Run, Callable[[], Any]]]) -> None:
    """The worker's side: one line of JSON in, one out. ``prepare(case)`` gives what to time and what computes the
    result to compare."""
    import numpy as np

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print belongs to stderr
    ready: dict[str, tuple[Run, Callable[[], Any]]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            case = request["case"]
            if case not in ready:
                ready[case] = prepare(case)
            run, result = ready[case]
            if request["do"] == "check":
                np.save(request["file"], np.asarray(result(), dtype=np.float64).ravel())
                answer: dict[str, Any] = {}
            elif request["do"] == "memory":
                answer = {"peak_bytes": common.peak_resident()}
            else:
                times = []
                clock = time.process_time_ns if PROCESSOR_TIME in os.environ else time.perf_counter_ns
                for _ in range(request["runs"]):
                    begin = clock()
                    own = run()
                    took = (clock() - begin) / 1e6
                    times.append(own if isinstance(own, float) and PROCESSOR_TIME not in os.environ else took)
                answer = {"ms": times}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Peer:
    def __init__(self, name: str, script: str, threads: int) -> None:
        self.name, self.trouble = name, None
        environment = {
            **os.environ,
            **{v: str(threads) for v in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPU_NUM_THREADS")},
        }
        self.process = subprocess.Popen(
            [sys.executable, script, "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if "PEERS_VERBOSE" not in os.environ else None,
            text=True,
            env=environment,
        )
        self.process.send_signal(signal.SIGSTOP)

    def ask(self, **request: Any) -> dict[str, Any] | None:
        if self.trouble:
            return None
        assert self.process.stdin
        assert self.process.stdout
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.trouble = "the process ended"
            return None
        self.process.send_signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            self.trouble = answer["error"]
            return None
        return answer

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def drive(
    peers: list[Peer], cases: list[str], reference: str, rounds: int, runs: int, probe: Callable[[], float], folder: str
) -> dict[str, Any]:
    """Times in milliseconds by case and peer, and each peer's distance from the reference's result."""
    import numpy as np

    results: dict[str, Any] = {}
    for case in cases:
        rows: dict[str, Any] = {}
        outputs = {}
        for peer in sorted(peers, key=lambda p: p.name != reference):
            file = os.path.join(folder, f"{peer.name}.npy")
            if peer.ask(do="check", case=case, file=file) is None:
                rows[peer.name] = {"error": peer.trouble}
                peer.trouble = None if peer.process.poll() is None else peer.trouble
                continue
            outputs[peer.name] = np.load(file)
            rows[peer.name] = {"blocks": []}
        for name, value in outputs.items():
            wanted = outputs.get(reference)
            if wanted is not None and wanted.shape == value.shape:
                rows[name]["difference"] = float(np.linalg.norm(value - wanted) / np.linalg.norm(wanted))
        for round_ in range(rounds):
            order = [p for p in peers if p.name in outputs]
            for peer in order if round_ % 2 == 0 else order[::-1]:
                peer.ask(do="run", case=case, runs=2)
                before = probe()
                answer = peer.ask(do="run", case=case, runs=runs)
                if answer:
                    rows[peer.name]["blocks"].append({"ms": answer["ms"], "probe_ms": [before, probe()]})
        for peer in [p for p in peers if p.name in outputs]:
            rows[peer.name] |= peer.ask(do="memory", case=case) or {}
        for row in rows.values():
            _summarise(row)
        results[case] = rows
    return results


def _summarise(row: dict[str, Any]) -> None:
    blocks = row.get("blocks", [])
    times = [ms for block in blocks for ms in block["ms"]]
    if not times:
        return
    row["median_ms"], row["min_ms"], row["n"] = statistics.median(times), min(times), len(times)
    # Blocks during which the machine's speed changed say nothing about the peer.
    steady = [
        statistics.median(b["ms"]) / statistics.mean(b["probe_ms"])
        for b in blocks
        if max(b["probe_ms"]) < 1.1 * min(b["probe_ms"])
    ]
    if steady:
        row["times_probe"], row["steady_blocks"] = statistics.median(steady), len(steady)
