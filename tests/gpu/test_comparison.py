"""``npu.compare`` on the GPU that NPU_TEST_DEVICE names: step by step as the CPU, up to a step of Qwen2.5-1.5B."""

from __future__ import annotations

from pathlib import Path

import npu
import npu_compiler
import pytest
import torch
from npu.comparison.sides import DeviceSide
from torch_ir import extract_ir

from tests.models.zoo.decoding import DecodeStep, empty_caches, step_inputs, tiny_qwen2
from tests.models.zoo.language_models import qwen2_5_1_5b
from tests.npu.test_compare import Solve
from tests.support.compared import MODELS, Wrong, ir_of, slightly
from tests.support.devices import chosen_device

GPU = chosen_device()
if GPU.kind == "cpu":
    pytest.skip("needs a GPU: NPU_TEST_DEVICE=cuda, as `make test-cuda` sets it", allow_module_level=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("other", ["cpu", "pytorch"])
def test_every_step_agrees(name: str, dtype: torch.dtype, other: str) -> None:
    report = npu.compare(ir_of(name, dtype), GPU, other, spread=True)
    assert report.agrees and report.first is None, str(report)
    assert all(row.compared and row.spread is not None for row in report), str(report)


def test_a_model_in_parts_agrees() -> None:
    ir = extract_ir(Solve().eval(), torch.zeros(4, 4)).to_dict()
    report = npu.compare(ir, GPU, "cpu", inputs={"x": torch.randn(4, 4).numpy()})
    assert report.agrees and len(report) >= 2, str(report)


def test_a_wrong_step_of_the_gpu_is_named_and_runs_again(tmp_path: Path) -> None:
    program, saved = npu_compiler.compile(ir_of("block")), tmp_path / "step.safetensors"
    wrong = Wrong("linear_3", slightly, GPU.kind)
    report = npu.compare(program, wrong, "cpu", save=saved)
    assert report.first is not None and "linear_3" in report.first.step, str(report)
    assert not npu.compare(saved, wrong, "cpu").agrees
    assert npu.compare(saved, DeviceSide(GPU.kind), "cpu").agrees


def test_a_decode_step_agrees() -> None:
    check_decode_step(tiny_qwen2(torch.bfloat16), 24)


@pytest.mark.slow
def test_a_decode_step_of_qwen2_5_agrees() -> None:
    check_decode_step(qwen2_5_1_5b(torch.bfloat16), 256)


def check_decode_step(model: torch.nn.Module, length: int) -> None:
    example = step_inputs(model, 5, 7, empty_caches(model, length))
    ir = extract_ir(DecodeStep(model), example)
    names = [tensor.name for tensor in ir.graph_inputs]
    past = [torch.randn(cache.shape).to(cache.dtype) for cache in example[4]]
    given = dict(zip(names, (*example[:4], *past), strict=True))
    report = npu.compare(ir, GPU, "cpu", inputs=given, weights=DecodeStep(model).state_dict())
    assert report.agrees and len(report) > 10, str(report)
