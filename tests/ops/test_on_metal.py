"""The cases of test_execution on Metal: real where there is a Mac, emulated elsewhere."""

from __future__ import annotations

import pytest
import torch
from npu_runtime import Device

from tests.support.devices import metal_device

from .cases import Case
from .test_execution import HALF, RUNNABLE, run_case


@pytest.fixture(scope="module")
def device() -> Device:
    return metal_device()


# Each kernel is compiled when it is first met, so the default tier takes some of the cases.
SHORT = 5


def tiers(cases: list[Case], start: int) -> list[object]:
    """Every SHORT-th case in the default tier, the others in the slow one."""
    return [
        pytest.param(case, id=case.name, marks=() if i % SHORT == start else (pytest.mark.slow,))
        for i, case in enumerate(cases)
    ]


@pytest.mark.parametrize("case", tiers(RUNNABLE, 0))
def test_op_runs_on_metal(case: Case, device: Device) -> None:
    run_case(case, torch.float32, device=device)


@pytest.mark.parametrize(
    ("dtype", "case"),
    [
        pytest.param(dtype, *param.values, id=f"{name}-{param.id}", marks=param.marks)
        for name, dtype, start in (("bfloat16", torch.bfloat16, 1), ("float16", torch.float16, 2))
        for param in tiers(HALF, start)
    ],
)
def test_op_runs_on_metal_in_half(case: Case, dtype: torch.dtype, device: Device) -> None:
    run_case(case, dtype, device=device)
