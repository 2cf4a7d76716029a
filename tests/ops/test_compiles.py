"""Every case compiles to what PyTorch computes, by the interpreter in NumPy, or is refused for the reason given."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest
import torch
from npu_compiler import CompiledProgram, CompileError, compile
from npu_compiler.reference import run
from torch import Tensor
from torch.utils import _pytree as pytree
from torch_ir import extract_ir, serialize_ir

from tests.npu_compiler.helpers import OPTIONAL

from .cases import CASES, Case


def as_numpy(x: Tensor) -> np.ndarray[Any, Any]:
    import ml_dtypes

    x = x.detach()
    if x.dtype == torch.bfloat16:
        return x.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return x.contiguous().numpy()


def as_double(x: Any) -> Any:
    return x.double() if isinstance(x, Tensor) and x.dtype == torch.float32 else x


def difference(got: np.ndarray[Any, Any], want: Tensor) -> float:
    """The relative Frobenius norm; anything but finite numbers must be equal."""
    a, b = got.astype(np.float64), as_numpy(want.double() if want.is_floating_point() else want).astype(np.float64)
    assert a.shape == b.shape
    odd = ~np.isfinite(b)
    np.testing.assert_array_equal(a[odd], b[odd])
    a, b = a[~odd], b[~odd]
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-3)) if a.size else 0.0


@functools.cache
def _ir_text(case: Case) -> str:
    """Tracing takes most of the time of these tests."""
    return serialize_ir(extract_ir(case.build(), case.make(), model_name=case.name))


def ir_of_case(case: Case) -> dict[str, Any]:
    ir: dict[str, Any] = json.loads(_ir_text(case))
    return ir


def compile_case(case: Case, **options: Any) -> tuple[CompiledProgram, torch.nn.Module, tuple[Tensor, ...]]:
    model = case.build()
    return compile(ir_of_case(case), quantized=case.schemes(model), **options), model, case.make()


def check(case: Case, **options: Any) -> CompiledProgram:
    program, model, inputs = compile_case(case, **options)
    weights = {k: as_numpy(v) for k, v in case.stored(model).items()}
    names = [e["name"] for e in program.data["inputs"]]
    got = list(run(program, dict(zip(names, map(as_numpy, inputs), strict=True)), weights).values())
    state = {k: as_double(v) for k, v in model.state_dict().items()}
    want = pytree.tree_leaves(model(*inputs))
    with torch.no_grad():
        exact = pytree.tree_leaves(
            torch.func.functional_call(model, state, tuple(map(as_double, inputs)), tie_weights=False)
        )
    assert len(got) == len(want)
    for ours, theirs, best in zip(got, want, exact, strict=True):
        assert ours.dtype == as_numpy(theirs).dtype
        tolerance = {torch.float16: 2e-3, torch.bfloat16: 1e-2}.get(theirs.dtype, case.tolerance)
        best = best if theirs.is_floating_point() and theirs.dtype == torch.float32 else theirs
        assert difference(ours, best) <= (tolerance if theirs.is_floating_point() else 0), case.name
    return program


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_op(case: Case) -> None:
    if case.refused:
        with pytest.raises(CompileError, match=case.refused):
            compile_case(case)
        return
    check(case)


@pytest.mark.parametrize("case", CASES[::5], ids=[c.name for c in CASES[::5]])
def test_op_without_passes(case: Case) -> None:
    if not case.refused:
        check(case, disable=OPTIONAL)


@pytest.mark.parametrize("case", CASES[1::3], ids=[c.name for c in CASES[1::3]])
def test_op_in_half_inside(case: Case) -> None:
    """``compute_dtype`` changes neither dtypes outside nor, beyond rounding, values."""
    if case.refused:
        return
    program, model, inputs = compile_case(case, compute_dtype="float16")
    weights = {k: as_numpy(v) for k, v in case.stored(model).items()}
    names = [e["name"] for e in program.data["inputs"]]
    got = list(run(program, dict(zip(names, map(as_numpy, inputs), strict=True)), weights).values())
    for ours, theirs in zip(got, pytree.tree_leaves(model(*inputs)), strict=True):
        assert ours.dtype == as_numpy(theirs).dtype
        if theirs.is_floating_point():
            assert difference(ours, theirs) <= 5e-3
