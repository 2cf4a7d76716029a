"""Decoding with Qwen2.5-1.5B as it is planned for chips that are not here: launches, bytes, how far weights spread."""

from __future__ import annotations

import re

import npu_compiler
import pytest
import torch
from npu_base.quantization import Scheme
from npu_runtime import Device, Executor
from torch_ir import extract_ir

from tests.models.zoo.decoding import DecodeStep
from tests.models.zoo.language_models import qwen2_5_1_5b_on_meta

POSITION = 128
LARGE = 1e6  # bytes of a launch that streams weights
CORES = {"m4pro": 20, "m4max": 40}
SCHEMES = {"bfloat16": None, "8 bits": Scheme(8, 64), "4 bits": Scheme(4, 64), "Q4_0": Scheme(4, 32, "none", True)}


def decode_program(layers: int, scheme: Scheme | None) -> npu_compiler.CompiledProgram:
    """Caches hold what is valid at the position: decoding costs that much, whatever their capacity."""
    model = qwen2_5_1_5b_on_meta(num_hidden_layers=layers, attn_implementation="eager")
    with torch.device("meta"):
        one = torch.zeros(1, 1, dtype=torch.int64)
        caches = [torch.zeros(1, 2, POSITION + 1, 128, dtype=torch.bfloat16) for _ in range(2 * layers)]
        inputs = (one, torch.zeros(1, 1, 1, POSITION + 1), one, one[0], caches)
    ir = extract_ir(DecodeStep(model), inputs, model_name="Qwen2.5_Decode")
    matrices = [weight.name for weight in ir.weights if len(weight.shape) == 2]
    quantized = None if scheme is None else dict.fromkeys(matrices, scheme)
    return npu_compiler.compile(ir, quantized=quantized)


@pytest.mark.parametrize("chip", CORES)
@pytest.mark.parametrize("form", SCHEMES)
@pytest.mark.parametrize("layers", [2, pytest.param(28, marks=pytest.mark.slow)])
def test_decoding_on_paper(layers: int, form: str, chip: str) -> None:
    program = decode_program(layers, SCHEMES[form])
    scheme = SCHEMES[form]
    more = 0 if scheme is None else len(scheme.parts((1, 64)))  # to dequantise a row of the embeddings
    assert len(program.data["main"]) == 8 * layers + 8 + more
    executor = Executor(program, Device(f"metal:{chip}"))
    summary, plan = executor.summary, executor.plan()
    assert summary.dispatches <= 7 * layers + 8 + more  # attention may take two
    # Before attention and before the gate of each layer, and before the scores.
    assert len(re.findall(r"^\d+  norm\[rms\] \+ matmul\[", plan, flags=re.MULTILINE)) == 2 * layers + 1
    assert not re.findall(r"^  \d+  norm_", plan, flags=re.MULTILINE)
    values = program.data["values"]
    stored = [values[weight["value"]] for weight in program.data["weights"]]
    weights = sum(torch.Size(x["shape"]).numel() * getattr(torch, x["dtype"]).itemsize for x in stored)
    caches = 2 * 2 * 128 * (POSITION + 1) * 2 * layers
    assert summary.bytes <= 1.02 * (weights + caches)
    streaming = [
        (int(groups) * int(threads) / 256 / CORES[chip], line)
        for line in plan.splitlines()
        if (found := re.search(r"(\d+) threadgroups \(.*?\) of (\d+) threads, ([\d.]+) KB", line))
        for groups, threads, kilobytes in [found.groups()]
        if float(kilobytes) * 1e3 > LARGE
    ]
    assert len(streaming) == 4 * layers + 1
    assert [line for spread, line in streaming if spread < 4] == []
