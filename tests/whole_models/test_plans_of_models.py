"""What is planned for a chip that is not here: launches, barriers and bytes of whole models."""

from __future__ import annotations

import re

import npu_compiler
import pytest
import torch
from npu_runtime import Device, Executor
from torch_ir import extract_ir

from tests.models.zoo.decoding import DecodeStep, empty_caches, step_inputs, tiny_qwen2
from tests.models.zoo.image_models import build

# Launches at most, and bytes beside the least possible.
MODELS = {"resnet18": (25, 1.15), "resnet50": (60, 1.15), "mobilenet_v2": (60, 1.15)}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_image_models(name: str, dtype: torch.dtype) -> None:
    launches, factor = MODELS[name]
    model = build(name).to(dtype)
    program = npu_compiler.compile(extract_ir(model, torch.randn(1, 3, 224, 224, dtype=dtype)))
    convolutions = sum(op["op"] == "conv" for op in program.data["main"])
    executor = Executor(program, Device("metal:m4pro"))
    found = re.findall(r"^  \d+  conv\S* of conv2d", executor.plan(), flags=re.MULTILINE)
    assert len(found) == convolutions
    summary = executor.summary
    assert summary.dispatches <= launches
    assert summary.barriers < summary.dispatches
    assert 1 <= summary.bytes / summary.least_bytes <= factor
    assert summary.seconds > 0


def test_branches_of_a_decoder_share_barriers() -> None:
    """Queries, keys and values depend on nothing but what is before all three."""
    model = tiny_qwen2()
    inputs = step_inputs(model, 0, 0, empty_caches(model, 32))
    program = npu_compiler.compile(extract_ir(DecodeStep(model), inputs), disable=["merge_products"])
    summary = Executor(program, Device("metal:m4max")).summary
    assert summary.barriers < 0.8 * summary.dispatches


def test_a_decode_step_reads_everything_once() -> None:
    """Caches that are updated in place cost the rows that are written; attention reads its operands and no more."""
    model = tiny_qwen2()
    inputs = step_inputs(model, 0, 0, empty_caches(model, 4096))
    program = npu_compiler.compile(extract_ir(DecodeStep(model), inputs))
    executor = Executor(program, Device("metal:m4max"))
    plan, summary = executor.plan(), executor.summary
    layers = model.config.num_hidden_layers
    for kernel in ("rope_float", "attention_rows_4x1_float", "attention_join_float"):
        assert len(re.findall(rf"^  \d+  {kernel} of", plan, flags=re.MULTILINE)) == layers
    # Beside that, what the parts of long caches leave in the scratch.
    assert 1 <= summary.bytes / summary.least_bytes <= 1.05
