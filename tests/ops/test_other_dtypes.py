"""Every case with integers or bools for its floats: what eager PyTorch takes is compiled exactly, or refused."""

from __future__ import annotations

import npu
import pytest
import torch
from npu_compiler import CompileError, InternalCompileError
from torch import Tensor
from torch.utils import _pytree as pytree

from tests.support.devices import chosen_device

from .cases import CASES, Case

DTYPES = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool)
TIES = ("kthvalue", "topk")
"""Which of equal elements they name is not said."""
SORTED = ("bucketize", "searchsorted")
"""Their boundaries are in order as signed numbers only."""


def _converted(case: Case, dtype: torch.dtype) -> tuple[Tensor, ...] | None:
    inputs = case.make()
    if case.refused or not any(x.is_floating_point() for x in inputs):
        return None
    if any(True for _ in case.build().parameters()):
        return None
    return tuple((x * 8).nan_to_num(0, 100, 50).to(dtype) if x.is_floating_point() else x for x in inputs)


def _check(case: Case, dtype: torch.dtype) -> bool:
    """Whether PyTorch takes this dtype, and the device does."""
    inputs = _converted(case, dtype)
    if inputs is None or (case.name.startswith(SORTED) and dtype in (torch.uint8, torch.bool)):
        return False
    model = case.build()
    try:
        with torch.no_grad():
            want = pytree.tree_leaves(model(*(x.clone() for x in inputs)))
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
        return False
    try:
        compiled = npu.compile(model, inputs, device=chosen_device(), fallback="error")
    except InternalCompileError:
        raise
    except CompileError:
        return False
    got = pytree.tree_leaves(compiled(*(x.clone() for x in inputs)))
    for ours, theirs in zip(got, want, strict=True):
        if not isinstance(theirs, Tensor):
            assert ours == theirs
        elif theirs.is_floating_point():
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4, equal_nan=True)
        elif not case.name.startswith(TIES):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ops_of_other_dtypes(dtype: torch.dtype, part: int) -> None:
    run, wrong = 0, []
    for case in CASES[part::8]:
        try:
            run += _check(case, dtype)
        except (AssertionError, npu.NPUError) as error:
            wrong.append(f"{case.name}: {error}")
    assert not wrong, "\n".join(wrong)
    assert run >= 15


@pytest.mark.parametrize(
    ("name", "runs"),
    [("einsum ij,ij->i", True), ("integers as floats bare", True), ("affine linear int8 1 rows", False)],
)
def test_some_of_int32(name: str, runs: bool) -> None:
    """What does not run is refused with its reason, and is no internal error."""
    (case,) = (case for case in CASES if case.name == name)
    assert _check(case, torch.int32) is runs
