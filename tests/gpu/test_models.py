"""Small models of many families on the GPU that NPU_TEST_DEVICE names; `make test-cuda` runs it."""

from __future__ import annotations

import pytest
import torch

from tests.support.devices import OnDevice, chosen_device
from tests.support.versions import skipping_what_older_versions_do_not_export
from tests.whole_models.test_huggingface_models import ZOO, Case, run

GPU = chosen_device()
if GPU.kind == "cpu":
    pytest.skip("needs a GPU: NPU_TEST_DEVICE=cuda, as `make test-cuda` sets it", allow_module_level=True)

CASES = [(name, dtype) for name in ZOO for dtype in ZOO[name].dtypes]


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=[f"{n}-{str(t).removeprefix('torch.')}" for n, t in CASES])
def test_model_on_the_gpu(name: str, dtype: torch.dtype) -> None:
    """Whole, or in parts as the list of models says."""
    with skipping_what_older_versions_do_not_export():
        try:
            case = Case(ZOO[name], dtype)
        except Exception as error:  # of OSError, or of the library that asks the hub
            if not isinstance(error, OSError) and not type(error).__module__.startswith("httpx"):
                raise
            pytest.skip(f"needs files of Hugging Face's hub: {' '.join(str(error).split())[:120]}")
        case.check(run(case, name, OnDevice(GPU)), dtype)
