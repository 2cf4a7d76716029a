"""Every case runs on the device as PyTorch does, in every floating-point dtype, by the numbers rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from npu_compiler import compile
from npu_runtime import Device, Executor, load_weights
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch_ir import extract_ir

from tests.support import numbers

from .cases import CASES, Case

RUNNABLE = [c for c in CASES if not c.refused]
DEVICE = Device("cpu")
FEW = 32
"""So many results are off by 1.5 times what PyTorch's are, or not, as luck has it: several draws tell."""


def cast(x: Any, dtype: torch.dtype) -> Any:
    return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x


def evaluate(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    with torch.no_grad():
        return pytree.tree_leaves(model(*inputs))


def run_case(case: Case, dtype: torch.dtype, threads: int = 0, device: Device = DEVICE, settle: bool = False) -> None:
    """GPUs may replay later runs in another way than the first, and in yet another one once the session settled."""

    def of_draw(seed: int) -> list[Result]:
        return _results(case, dtype, seed, threads, device, settle)

    for at, result in enumerate(of_draw(0)):
        got, best, own = result
        if 0 < own.numel() <= FEW and own.is_floating_point() and not numbers.holds(got, best, own):
            got, best, own = _together([result, *(of_draw(seed)[at] for seed in range(1, 8))])
        numbers.check(got, best, own, f"{case.name} in {dtype}")


Result = tuple[np.ndarray[Any, Any], Tensor, Tensor]
"""Ours, PyTorch's in float64, and PyTorch's."""


def _together(draws: list[Result]) -> Result:
    got, best, own = zip(*draws, strict=True)
    return (
        np.concatenate([x.ravel() for x in got]),
        torch.cat([x.flatten() for x in best]),
        torch.cat([x.flatten() for x in own]),
    )


def _results(case: Case, dtype: torch.dtype, seed: int, threads: int, device: Device, settle: bool) -> list[Result]:
    model = case.build().to(dtype)
    inputs = tuple(cast(x, dtype) for x in case.make(seed))
    try:
        torchs = evaluate(model, inputs)
    except RuntimeError as error:
        if dtype == torch.float32:
            raise
        pytest.skip(f"PyTorch has no {dtype} here: {str(error)[:80]}")
    exact = evaluate(case.in_double(model), tuple(cast(x, torch.float64) for x in inputs))
    program = compile(extract_ir(model, inputs), quantized=case.schemes(model))
    executor = Executor(program, device, threads=threads)
    weights = load_weights(case.stored(model), program, device)
    names = [spec.name for spec in program.input_specs]
    session = executor.session()
    outputs = session.run(dict(zip(names, inputs, strict=True)), weights)
    if device.kind != "cpu":
        session.reset()
        if settle:
            session.settle()
        outputs = session.run(dict(zip(names, inputs, strict=True)), weights)
    results = []
    for spec, best, own in zip(program.output_specs, exact, torchs, strict=True):
        got = outputs[spec.name].to_numpy()
        assert str(own.dtype) == f"torch.{spec.dtype}"
        if own.is_floating_point() and not best.is_floating_point():
            best = own.double()
        if best.is_floating_point() and not own.is_floating_point():
            best = own
        results.append((got, best, own))
    return results


@pytest.mark.parametrize("case", RUNNABLE, ids=[c.name for c in RUNNABLE])
def test_op_runs(case: Case) -> None:
    run_case(case, torch.float32)


HALF = [c for c in RUNNABLE if any(x.is_floating_point() for x in c.make())]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("case", HALF, ids=[c.name for c in HALF])
def test_op_runs_in_half(case: Case, dtype: torch.dtype) -> None:
    run_case(case, dtype)
