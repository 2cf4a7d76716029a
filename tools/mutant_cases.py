"""Cases of the op table, ready to run: programs, inputs and PyTorch's results, cached in a file."""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from kernel_mutants import GENERATED, KERNELS, ROOT
from npu_compiler import CompiledProgram, compile
from npu_runtime import Device, Executor, load_weights
from torch_ir import extract_ir

sys.path.insert(0, str(ROOT))
from tests.ops.test_execution import RUNNABLE, cast, evaluate
from tests.support import numbers

CHIP = "metal:m4pro"


@dataclass
class Ready:
    """A case after everything that does not depend on kernels; ``kernels`` are those that its plan launches."""

    name: str
    program: bytes
    text: str
    inputs: tuple[torch.Tensor, ...]
    weights: dict[str, torch.Tensor]
    exact: list[torch.Tensor]
    own: list[torch.Tensor]
    kernels: tuple[str, ...]

    def run(self, device: Device) -> None:
        """Raises if the device fails or its results differ from PyTorch's."""
        program = CompiledProgram.from_bytes(self.program)
        executor = Executor(program, device)
        names = [spec.name for spec in program.input_specs]
        outputs = executor.run(dict(zip(names, self.inputs, strict=True)), load_weights(self.weights, program, device))
        for spec, exact, own in zip(program.output_specs, self.exact, self.own, strict=True):
            numbers.check(outputs[spec.name].to_numpy(), exact, own, self.name)


def launches(plan: str) -> tuple[str, ...]:
    """The names of kernels in the text of a plan for a chip on paper."""
    return tuple(re.findall(r"^\s+\d+\s+(\w+) of .*threadgroups", plan, re.M))


def make_ready(index: int) -> Ready | None:
    case = RUNNABLE[index]
    model, inputs = case.build(), case.make()
    own = evaluate(model, inputs)
    exact = evaluate(case.in_double(model), tuple(cast(x, torch.float64) for x in inputs))
    for i, (best, mine) in enumerate(zip(exact, own, strict=True)):
        if best.is_floating_point() != mine.is_floating_point():
            exact[i] = mine.double() if mine.is_floating_point() else mine
    program = compile(extract_ir(model, inputs), quantized=case.schemes(model))
    kernels = launches(Executor(program, Device(CHIP)).plan())
    if not kernels:
        return None
    return Ready(case.name, program.to_bytes(), program.text(), inputs, case.stored(model), exact, own, kernels)


def state_of(folders: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def ready_cases(kept_in: Path) -> list[Ready]:
    """All cases, from the file if nothing has changed since it was written."""
    file = kept_in / f"cases-{state_of([ROOT / 'tests' / 'ops', ROOT / 'python' / 'npu_compiler'])}.pt"
    if not file.exists():
        torch.set_num_threads(1)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            made: list[Any] = pool.map(make_ready, range(len(RUNNABLE)), chunksize=16)
        torch.save([case for case in made if case], file)
    return torch.load(file, weights_only=False)


@functools.cache
def kernels_of(library: str) -> list[str]:
    """The prefix of its kernels' names."""
    return re.findall(r"\[\[kernel\]\] void (\w+)", (KERNELS / f"{library}.metal").read_text())


@functools.cache
def library_of(kernel: str) -> str:
    """The file of a kernel: the one with the longest matching prefix."""
    best, length = GENERATED, 0
    for path in KERNELS.glob("*.metal"):
        for name in kernels_of(path.stem):
            if kernel.startswith(name) and len(name) > length:
                best, length = path.stem, len(name)
    return best
