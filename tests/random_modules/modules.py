"""Random modules: drawn, run, compared with eager PyTorch, made smaller where they differ.

``python -m tests.random_modules --count 1000 --seed 0`` runs as many, on the CPU on every instruction set that it has;
``NPU_TEST_DEVICE`` chooses another device.
"""

from __future__ import annotations

import random
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import npu
import npu_compiler
import numpy as np
import torch
from npu.compiled import whole_module
from npu.saving.signature import make_signature
from npu_compiler import CompileError, InternalCompileError
from npu_runtime import Executor, load_weights
from torch import Tensor, nn
from torch_ir import IR, ConversionError, ExportError, extract_ir

from tests.support.devices import chosen_device

from .steps import CLOSE, DTYPES, EXACT, FLOATS, FREE, SHAPES, SPECIAL, Draw, Step
from .worker import Worker

HALVES = (torch.float16, torch.bfloat16)
CALLS = 2  # of each module, since it may keep state


@dataclass
class Program:
    """Inputs, steps, and which values are results. ``state`` is the value that the module writes into a buffer, which
    then holds the last of the inputs."""

    seed: int
    inputs: list[Tensor]
    steps: list[Step]
    results: list[int]
    state: int | None = None
    ir: IR | None = None
    qualities: list[str] = field(default_factory=list)
    chained: list[bool] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}"]
        lines += [f"  v{at} = input {x.dtype}{list(x.shape)} {x.tolist()}" for at, x in enumerate(self.inputs)]
        lines += [f"  v{at} = {step}" for at, step in enumerate(self.steps, len(self.inputs))]
        return "\n".join([*lines, f"  return {', '.join(f'v{at}' for at in self.results)}"])


class Module(nn.Module):
    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        if program.state is not None:
            self.register_buffer("state", program.inputs[-1].clone())

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = list(inputs)
        if self.program.state is not None:
            values.append(self.state.clone())
        for step in self.program.steps:
            values.append(step.run(values))
        if self.program.state is not None:
            self.state.copy_(values[self.program.state])
        return tuple(values[at].clone() for at in self.program.results)


def draw_tensor(rng: random.Random) -> Tensor:
    dtype, shape = rng.choice((*FLOATS, *DTYPES)), rng.choice(SHAPES)
    count = int(torch.Size(shape).numel())
    if dtype in FLOATS:
        numbers = [rng.choice(SPECIAL) if rng.random() < 0.2 else round(rng.gauss(0, 3), 2) for _ in range(count)]
        x = torch.tensor(numbers, dtype=torch.float64).to(dtype)
    elif dtype == torch.bool:
        x = torch.tensor([rng.random() < 0.5 for _ in range(count)])
    else:
        limits = torch.iinfo(dtype)
        ends = (limits.min, limits.max, limits.max - 1, 0, 1)
        low = max(limits.min, -9)
        x = torch.tensor([rng.choice(ends) if rng.random() < 0.1 else rng.randint(low, 9) for _ in range(count)],
                         dtype=dtype)  # fmt: skip
    return x.to(dtype).reshape(shape)


def draw(seed: int, most: int = 8) -> Program:
    """Steps that eager PyTorch can run on the inputs."""
    rng = random.Random(seed)
    inputs = [draw_tensor(rng) for _ in range(rng.randint(1, 3))]
    values = [x.clone() for x in inputs]
    steps: list[Step] = []
    wanted = rng.randint(1, most)
    for _ in range(10 * wanted):
        if len(steps) == wanted:
            break
        try:
            step = Draw(rng, values).step()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = step.run([v.clone() for v in values])
        except (LookupError, RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
            continue
        if made.dtype in DTYPES and made.ndim <= 5 and made.numel() <= 4096:
            steps.append(step)
            values.append(made)
    made_by_steps = range(len(inputs), len(values))
    results = sorted(set(rng.choices(made_by_steps, k=rng.randint(1, 3)))) if steps else []
    if steps and len(values) - 1 not in results:
        results.append(len(values) - 1)
    alike = [at for at in made_by_steps if (values[at].shape, values[at].dtype) == (inputs[-1].shape, inputs[-1].dtype)]
    state = alike[-1] if alike and len(inputs) > 1 and rng.random() < 0.5 else None
    program = Program(seed, inputs, steps, results, state)
    judge_qualities(program, values)
    return program


def judge_qualities(program: Program, values: list[Tensor]) -> None:
    """How each value may be compared, and whether a half value is arithmetic on half arithmetic."""
    count = len(program.inputs)
    program.qualities, program.chained = [EXACT] * count, [False] * count
    arithmetic = [False] * count
    for step, made in zip(program.steps, values[count:], strict=True):
        worst = {program.qualities[at] for at in step.reads}
        moves = not step.arithmetic and step.quality == EXACT
        quality = step.quality if worst <= {EXACT} else CLOSE if moves and FREE not in worst else FREE
        if quality == CLOSE and made.dtype not in FLOATS:
            quality = FREE
        program.qualities.append(quality)
        halves = [at for at in step.reads if values[at].dtype in HALVES]
        computes = step.arithmetic or step.quality == CLOSE
        above = any(arithmetic[at] or program.chained[at] for at in halves)
        program.chained.append(any(program.chained[at] for at in halves) or (computes and above))
        arithmetic.append(computes or any(arithmetic[at] for at in step.reads))


def fault(program: Program, exact: bool, workers: Sequence[Worker] = ()) -> str | None:
    try:
        return difference(program, exact, workers)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def difference(program: Program, exact: bool, workers: Sequence[Worker] = ()) -> str | None:
    """What is wrong with the compiled module, here or on a worker, if anything is."""
    inputs = program.inputs if program.state is None else program.inputs[:-1]
    eager = Module(program).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compiled = compile(program, inputs, exact)
        except (ExportError, ConversionError):
            return None
        except InternalCompileError as error:
            return str(error)
        except CompileError:
            return None
        count = CALLS if program.state is not None and comparable(program, program.state, exact) else 1
        own = own_results(eager, inputs, count)
        count = len(own)
        answers = {"here": [_tuple(compiled(*(x.clone() for x in inputs))) for _ in range(count)]}
        if workers:
            answers |= elsewhere(program, compiled, inputs, count, workers)
    for where, calls in answers.items():
        for call, (got, wanted) in enumerate(zip(calls, own, strict=True)):
            for at, ours, theirs in zip(program.results, got, wanted, strict=True):
                wrong = compare(program, at, ours, theirs, exact)
                if wrong is not None:
                    told = f"\n    ours  {ours.tolist()}\n    torch {theirs.tolist()}"
                    return f"v{at}, call {call}, {where}: {wrong}{told}"
    return None


def compile(program: Program, inputs: list[Tensor], exact: bool) -> npu.CompiledModule:
    """As ``npu.compile`` does, from an IR that is extracted once."""
    module = Module(program).eval()
    program.ir = program.ir or extract_ir(module, tuple(x.clone() for x in inputs))
    made = npu_compiler.compile(program.ir, exact=exact)
    executor = Executor(made, chosen_device(), threads=1)
    weights = load_weights(module.state_dict(), made, chosen_device())
    return whole_module(program.ir, made, executor, weights, make_signature(program.ir))


def own_results(eager: Module, inputs: list[Tensor], count: int) -> list[tuple[Tensor, ...]]:
    """Of one call after the other, as far as PyTorch can go: with a new state it may divide by zero."""
    results = [eager(*(x.clone() for x in inputs))]
    for _ in range(count - 1):
        try:
            results.append(eager(*(x.clone() for x in inputs)))
        except RuntimeError:
            break
    return results


def _tuple(found: Any) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def as_array(x: Tensor) -> np.ndarray:
    return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if x.dtype == torch.bfloat16 else x.numpy()


def as_tensor(x: np.ndarray) -> Tensor:
    return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16) if x.dtype == ml_dtypes.bfloat16 else (
        torch.from_numpy(x))  # fmt: skip


def elsewhere(
    program: Program, compiled: npu.CompiledModule, inputs: list[Tensor], count: int, workers: Sequence[Worker]
) -> dict[str, list[tuple[Tensor, ...]]]:
    """The results of the workers, by their instruction set."""
    named = {meta.name: as_array(x) for meta, x in zip(compiled.ir.graph_inputs, inputs, strict=True)}
    state = {} if program.state is None else {"state": as_array(program.inputs[-1])}
    names = [meta.name for meta in compiled.ir.graph_outputs]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "module.npubin")
        path.write_bytes(compiled.program.to_bytes())
        request = {"program": str(path), "state": state, "calls": [named] * count}
        answers = {worker.isa: worker.run(request) for worker in workers}
    return {isa: [tuple(as_tensor(found[n]) for n in names) for found in calls] for isa, calls in answers.items()}


def comparable(program: Program, at: int, exact: bool) -> bool:
    """Whether every bit of a value is known."""
    half = program.chained[at]
    return program.qualities[at] == EXACT and (exact or not half)


def compare(program: Program, at: int, ours: Tensor, theirs: Tensor, exact: bool) -> str | None:
    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        return f"{ours.dtype}{list(ours.shape)}, expected {theirs.dtype}{list(theirs.shape)}"
    quality = program.qualities[at]
    if comparable(program, at, exact) or (quality == EXACT and theirs.dtype not in HALVES):
        same = (ours == theirs) | ((ours != ours) & (theirs != theirs))
        return None if bool(same.all()) else "other bits"
    if quality == CLOSE and not program.chained[at]:
        return None if close(ours, theirs) else "too far"
    return None


def close(ours: Tensor, theirs: Tensor) -> bool:
    a, b = ours.double(), theirs.double()
    finite = b.isfinite() & a.isfinite()
    odd = ~finite & ~((a == b) | (a.isnan() & b.isnan()))
    limit = float(torch.finfo(theirs.dtype).max)
    if bool((odd & (b.abs() < limit / 4) & ~b.isnan()).any()):
        return False
    scale = max(float(b[finite].abs().max()) if bool(finite.any()) else 0.0, 1.0)
    epsilon = float(torch.finfo(theirs.dtype).eps)
    return bool(((a - b).abs()[finite] <= 64 * epsilon * scale + 1e-30).all())


def shrink(program: Program, exact: bool, workers: Sequence[Worker] = ()) -> Program:
    """The same fault with fewer results and steps."""
    best = program
    changed = True
    while changed:
        changed = False
        for candidate in _smaller(best):
            try:
                values = [x.clone() for x in candidate.inputs]
                for step in candidate.steps:
                    values.append(step.run([v.clone() for v in values]))
                judge_qualities(candidate, values)
            except Exception:  # a step that no longer fits
                continue
            if fault(candidate, exact, workers):
                best, changed = candidate, True
                break
    return best


def _smaller(program: Program) -> Iterator[Program]:
    count, state = len(program.inputs), program.state
    if len(program.results) > 1:
        for at in program.results:
            yield replace(program, ir=None, results=[at])
    last = max([*program.results, state or 0])
    if last < count + len(program.steps) - 1:
        yield replace(program, ir=None, steps=program.steps[: last - count + 1])
    for gone in range(len(program.steps)):
        place = count + gone
        if place in program.results or place == state:
            continue
        for stand_in in program.steps[gone].reads:

            def moved(at: int, place: int = place, stand_in: int = stand_in) -> int:
                return stand_in if at == place else at - (at > place)

            kept = program.steps[:gone] + program.steps[gone + 1 :]
            steps = [replace(step, reads=[moved(at) for at in step.reads]) for step in kept]
            results = [moved(at) for at in program.results]
            yield replace(program, ir=None, steps=steps, results=results, state=None if state is None else moved(state))


def check(seed: int, workers: Sequence[Worker] = ()) -> str | None:
    """The smallest form of what is wrong with the module of that seed."""
    program = draw(seed)
    if not program.steps:
        return None
    for exact in (False, True):
        wrong = fault(program, exact, workers)
        if wrong is not None:
            smallest = shrink(program, exact, workers)
            return f"{smallest}\n  {'exact=True, ' if exact else ''}{fault(smallest, exact, workers) or wrong}"
    return None
