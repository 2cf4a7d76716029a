"""The models of the test system, whole on the device, against PyTorch in float64."""

from __future__ import annotations

import copy
from typing import Any

import npu
import npu_compiler
import pytest
import torch
from npu_runtime import CPUBackend, DAGExecutor
from torch_ir import extract_ir

from tests.models import MODEL_REGISTRY, TestModelSpec
from tests.support import numbers
from tests.support.calls import call, in_float64
from tests.support.versions import skipping_what_older_versions_do_not_export
from tests.support.weights import build_seeded

HOST = {"Conditional": "cond"}  # branches chosen at run time are the host's


def batched(spec: TestModelSpec, batch: int) -> Any:
    if spec.make_inputs is not None:
        return spec.inputs()
    generator = torch.Generator().manual_seed(batch)
    return tuple(torch.randn(batch, *shape, generator=generator).to(spec.dtype) for shape in spec.input_shapes)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", sorted(set(MODEL_REGISTRY) - set(HOST)))
def test_model_agrees_with_float64(name: str, batch: int) -> None:
    spec = MODEL_REGISTRY[name]
    model, inputs = build_seeded(spec.build), batched(spec, batch)
    with skipping_what_older_versions_do_not_export():
        compiled = npu.compile(copy.deepcopy(model), *((inputs,) if isinstance(inputs, tuple) else ((), inputs)))
    exact = call(copy.deepcopy(model).double(), in_float64(inputs))
    torchs, ours = call(copy.deepcopy(model), inputs), call(compiled, inputs)
    assert len(ours) == len(torchs) > 0
    for i, (got, wanted, own) in enumerate(zip(ours, exact, torchs, strict=True)):
        assert got.dtype == own.dtype
        # A bfloat16 model that returns float32 computes in bfloat16 all the same.
        inside = spec.dtype if own.dtype == torch.float32 else own.dtype
        if not own.is_floating_point():
            assert torch.equal(got, own)
            continue
        error, limit = numbers.error(got, wanted), numbers.allowed(numbers.error(own, wanted), inside)
        assert error <= limit, f"output {i}: error {error:.3g}, allowed {limit:.3g}"


@pytest.mark.parametrize("name", HOST)
def test_what_the_host_must_do_is_named_and_done(name: str) -> None:
    spec = MODEL_REGISTRY[name]
    model, inputs = build_seeded(spec.build), spec.inputs()
    assert isinstance(inputs, tuple)
    with pytest.raises(npu_compiler.CompileError, match=HOST[name]):
        npu.compile(copy.deepcopy(model), inputs, fallback="error")
    ir = extract_ir(copy.deepcopy(model), inputs).to_dict()
    dag = DAGExecutor(npu_compiler.partition(ir), CPUBackend())
    given = dict(zip((t["name"] for t in ir["graph_inputs"]), inputs, strict=True))
    outputs = dag.execute(given, {k: v.detach().numpy() for k, v in model.state_dict().items()})
    for got, wanted in zip(outputs.values(), call(model, inputs), strict=True):
        torch.testing.assert_close(torch.from_numpy(got), wanted)
