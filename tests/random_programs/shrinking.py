"""Random programs by Hypothesis, which makes a failing one as small as it can."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from npu_runtime import Device

from .making import Made, a_program
from .running import check
from .values import Choose


@st.composite
def programs(draw: Any) -> Made:
    return a_program(Choose(lambda low, high: draw(st.integers(low, high))))


def run_many(device: Device, count: int, seed: int, threads: int = 2) -> None:
    """The same programs for the same seed."""

    @with_seed(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(programs())
    def agrees(made: Made) -> None:
        check(made, device, threads)

    agrees()
