"""Every operator case in three dtypes on the GPU that NPU_TEST_DEVICE names; `make test-cuda` runs it."""

from __future__ import annotations

import pytest
import torch
from npu_compiler import CompileError
from torch_ir import ConversionError, ExportError

from tests.ops.making import Case
from tests.ops.test_execution import HALF, RUNNABLE, run_case
from tests.support.devices import chosen_device

GPU = chosen_device()
if GPU.kind == "cpu":
    pytest.skip("needs a GPU: NPU_TEST_DEVICE=cuda, as `make test-cuda` sets it", allow_module_level=True)

NEWEST = (2, 13)  # the PyTorch with which every case of the table compiles
VERSION = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
CASES = [(c, torch.float32) for c in RUNNABLE] + [(c, t) for t in (torch.bfloat16, torch.float16) for c in HALF]


@pytest.mark.parametrize(("case", "dtype"), CASES, ids=[f"{c.name}-{str(t).removeprefix('torch.')}" for c, t in CASES])
def test_op_runs_on_the_gpu(case: Case, dtype: torch.dtype) -> None:
    try:
        run_case(case, dtype, device=GPU)
    except (ConversionError, ExportError, CompileError) as error:
        if VERSION >= NEWEST:
            raise
        pytest.skip(f"PyTorch {torch.__version__} does not export it as newer ones do: {str(error)[:150]}")
