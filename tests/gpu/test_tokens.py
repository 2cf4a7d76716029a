"""Qwen2.5-1.5B at its full size continues a prompt on the GPU that NPU_TEST_DEVICE names as on the CPU."""

from __future__ import annotations

import os
from typing import Any

import npu
import pytest
import torch
from npu_runtime import Device

from tests.models.zoo.language_models import qwen2_5_1_5b
from tests.support.devices import chosen_device

GPU = chosen_device()
if GPU.kind == "cpu":
    pytest.skip("needs a GPU: NPU_TEST_DEVICE=cuda, as `make test-cuda` sets it", allow_module_level=True)

PROMPT = torch.randint(0, 100_000, (100,), generator=torch.Generator().manual_seed(1)).tolist()


def tokens(model: Any, device: Device) -> list[int]:
    generator = npu.Generator.from_model(
        model, capacity=256, buckets=(1, 128), device=device, threads=os.cpu_count() or 1, stop_tokens=()
    )
    return list(generator.generate(PROMPT, 64, temperature=0).tokens)


@pytest.mark.slow
def test_tokens_are_those_of_the_cpu() -> None:
    model = qwen2_5_1_5b(torch.float32)
    expected = tokens(model, Device("cpu"))
    assert len(set(expected)) > 8  # a model that repeats itself would prove little
    assert tokens(model, GPU) == expected
