"""Runs programs on the instruction set that NPU_CPU_ISA names: requests come by pickle from the standard input."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any

from npu_runtime import Device, Executor, NPUError, load_weights

ISAS = ("avx512_bf16", "avx512", "avx2", "portable", "neon")


class Worker:
    """A process with an instruction set of its own."""

    def __init__(self, isa: str) -> None:
        self.isa = isa
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.random_modules.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "NPU_CPU_ISA": isa},
        )  # fmt: skip

    def run(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """The outputs of each call, by name, as NumPy arrays; RuntimeError with what went wrong there."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        pickle.dump(request, process.stdin)
        process.stdin.flush()
        answer = pickle.load(process.stdout)
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def workers() -> list[Worker]:
    """One for each instruction set that the machine has."""
    started = [Worker(isa) for isa in ISAS]
    able = []
    for worker in started:
        try:
            worker.run({})
        except RuntimeError:
            worker.close()
        else:
            able.append(worker)
    return able


def answer(request: dict[str, Any]) -> list[dict[str, Any]] | str:
    try:
        device = Device("cpu")
        if not request:
            return []
        executor = Executor(request["program"], device, threads=1)
        weights = load_weights(request["state"], executor.program, device)
        session = executor.session()
        answers = []
        for inputs in request["calls"]:
            outputs = session.run(inputs, weights)
            answers.append({name: buffer.to_numpy().copy() for name, buffer in outputs.items()})
        return answers
    except NPUError as error:
        return str(error)


def main() -> None:
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(answer(request), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
