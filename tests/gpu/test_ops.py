"""Every operator case in three dtypes on the GPU that NPU_TEST_DEVICE names; `make test-cuda` runs it."""

from __future__ import annotations

import pytest
import torch

from tests.ops.making import Case
from tests.ops.test_execution import HALF, RUNNABLE, run_case
from tests.support.devices import chosen_device
from tests.support.versions import skipping_what_older_versions_do_not_export

GPU = chosen_device()
if GPU.kind == "cpu":
    pytest.skip("needs a GPU: NPU_TEST_DEVICE=cuda, as `make test-cuda` sets it", allow_module_level=True)

CASES = [(c, torch.float32) for c in RUNNABLE] + [(c, t) for t in (torch.bfloat16, torch.float16) for c in HALF]


@pytest.mark.parametrize(("case", "dtype"), CASES, ids=[f"{c.name}-{str(t).removeprefix('torch.')}" for c, t in CASES])
def test_op_runs_on_the_gpu(case: Case, dtype: torch.dtype) -> None:
    with skipping_what_older_versions_do_not_export():
        run_case(case, dtype, device=GPU, settle=CASES.index((case, dtype)) % 5 == 0)
