"""PyTorch's own samples of its operators, run on the device: what `test_operator_samples.py` compares.

``python -m tests.ops.operator_samples`` writes the list of refusals anew; ``--only NAME`` shows single operators.
"""

from __future__ import annotations

import argparse
import copy
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from npu_compiler import CompileError, InternalCompileError, compile
from npu_runtime import Device, Executor
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch_ir import extract_ir

from tests.support import numbers
from tests.support.devices import chosen_device

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool)
SAMPLES = 6  # of each operator and dtype
LIST = Path(__file__).with_name("refused_samples.txt")
UNINITIALISED = re.compile("empty|resize")
"""Operators whose results are whatever memory held."""


@dataclass(frozen=True)
class Outcome:
    """``kind`` is same, wrong, refused, or torch (when PyTorch itself cannot run or export it)."""

    kind: str
    reason: str = ""


class Call(nn.Module):
    """An operator with all but its tensors bound."""

    def __init__(self, function: Any, leaves: list[Any], spec: Any) -> None:
        super().__init__()
        self.function, self.leaves, self.spec = function, leaves, spec

    def forward(self, *tensors: Tensor) -> Any:
        queue = iter(tensors)
        leaves = [next(queue) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        found = self.function(*args, **kwargs)
        return tuple(leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, Tensor))


def operators() -> list[Any]:
    from torch.testing._internal.common_methods_invocations import op_db

    return [op for op in op_db if not UNINITIALISED.search(op.name)]


def full_name(op: Any) -> str:
    return op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")


def samples(op: Any, dtype: torch.dtype) -> Iterator[tuple[Call, tuple[Tensor, ...]]]:
    torch.manual_seed(0)
    for count, sample in enumerate(op.sample_inputs("cpu", dtype)):
        if count == SAMPLES:
            return
        leaves, spec = pytree.tree_flatten(((sample.input, *sample.args), sample.kwargs))
        tensors = tuple(leaf.detach() for leaf in leaves if isinstance(leaf, Tensor))
        yield Call(op.op, leaves, spec).eval(), tensors


def evaluate(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    with torch.no_grad():
        return list(model(*(x.clone() for x in inputs)))


def judge(call: Call, inputs: tuple[Tensor, ...], device: Device) -> Outcome:
    try:
        own = evaluate(call, inputs)
        again = evaluate(call, inputs)
        if not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(own, again, strict=True)):
            return Outcome("torch", "its results are random")
        if not own or not inputs:
            return Outcome("torch", "no tensors go in, or none come out")
        ir = extract_ir(call, inputs)
    except Exception as error:  # whatever PyTorch raises
        return Outcome("torch", f"{type(error).__name__}: {str(error)[:80]}")
    try:
        program = compile(ir)
    except InternalCompileError as error:
        return Outcome("wrong", str(error)[:300])
    except CompileError as error:
        return Outcome("refused", reason_of(str(error)))
    names = [spec.name for spec in program.input_specs]
    try:
        outputs = Executor(program, device).run(dict(zip(names, inputs, strict=True)))
    except RuntimeError as error:
        return Outcome("wrong", str(error)[:300])
    got = [
        torch.from_dlpack(outputs[spec.name]).cpu() if mine.numel() else mine
        for spec, mine in zip(program.output_specs, own, strict=True)
    ]
    return compare(call, inputs, own, got)


def compare(call: Call, inputs: tuple[Tensor, ...], own: list[Tensor], results: list[Tensor]) -> Outcome:
    """Our results beside PyTorch's ``own``."""
    exact = in_float64(call, inputs)
    for at, (got, mine) in enumerate(zip(results, own, strict=True)):
        if got.dtype != mine.dtype or got.shape != mine.shape:
            return Outcome("wrong", f"{got.dtype}{list(got.shape)}, expected {mine.dtype}{list(mine.shape)}")
        same = (got == mine) | ((got != got) & (mine != mine))
        if bool(same.all()) or ties(inputs[0], got, mine):
            continue
        best = exact[at] if exact and exact[at].is_floating_point() else mine
        usable = mine.isfinite() if mine.is_floating_point() else torch.ones_like(same)
        if not bool(same[~usable].all()):
            return Outcome("wrong", f"result {at}: infinite or NaN in other places")
        try:
            numbers.check(got[usable], best[usable], mine[usable], f"result {at}")
        except AssertionError as error:
            return Outcome("wrong", str(error))
    return Outcome("same")


def ties(x: Tensor, ours: Tensor, theirs: Tensor) -> bool:
    """Whether both are indices of equal elements of x: which of them comes first is PyTorch's to choose."""
    if ours.dtype != torch.int64 or x.ndim - ours.ndim not in (0, 1) or not x.ndim:
        return False
    for dim in range(x.ndim):
        a, b = (ours, theirs) if ours.ndim == x.ndim else (ours.unsqueeze(dim), theirs.unsqueeze(dim))
        try:
            if torch.equal(x.take_along_dim(a, dim), x.take_along_dim(b, dim)):
                return True
        except (RuntimeError, IndexError):
            continue
    return False


def in_float64(call: Call, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    try:
        wide = copy.copy(call)
        wide.leaves = [torch.float64 if x in (torch.float16, torch.bfloat16, torch.float32) else x for x in call.leaves]
        return evaluate(wide, tuple(x.double() if x.is_floating_point() else x for x in inputs))
    except (RuntimeError, TypeError):
        return []


def reason_of(message: str) -> str:
    """The reasons without what depends on the sample."""
    found = re.findall(r"^  - (\S+), \d+ times: (.*?); first at", message, re.MULTILINE)
    return "; ".join(sorted({f"{op}: {re.sub(r'[0-9]+', 'N', reason)}" for op, reason in found})) or message[:150]


def run(op: Any, dtype: torch.dtype, device: Device) -> list[Outcome]:
    if dtype not in op.dtypes:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [judge(call, inputs, device) for call, inputs in samples(op, dtype)]


def refusals(op: Any, dtype: torch.dtype, outcomes: list[Outcome]) -> list[str]:
    name = f"{str(dtype).removeprefix('torch.')} {full_name(op)}"
    return sorted({f"{name} | {outcome.reason}" for outcome in outcomes if outcome.kind == "refused"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="an operator's name")
    parser.add_argument("--dtype", action="append", help="a dtype, such as float32")
    options = parser.parse_args()
    known = {"operator": {op.name for op in operators()}, "dtype": {str(d).removeprefix("torch.") for d in DTYPES}}
    for kind, asked in (("operator", options.only), ("dtype", options.dtype)):
        for name in asked or ():
            if name not in known[kind]:
                parser.error(f"no such {kind}: {name}")
    lines: list[str] = []
    counts: dict[str, int] = {}
    for dtype in DTYPES:
        if options.dtype and str(dtype).removeprefix("torch.") not in options.dtype:
            continue
        for op in operators():
            if options.only and op.name not in options.only:
                continue
            outcomes = run(op, dtype, chosen_device())
            for outcome in outcomes:
                counts[outcome.kind] = counts.get(outcome.kind, 0) + 1
                if outcome.kind == "wrong" or options.only:
                    print(outcome.kind, dtype, full_name(op), outcome.reason, flush=True)
            lines += refusals(op, dtype, outcomes)
    print(counts)
    if not options.only and not options.dtype:
        LIST.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
