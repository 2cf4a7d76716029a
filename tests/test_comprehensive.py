"""Every registered model through the whole of torch_ir: extract, save, load, execute, verify."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.models import TestModelSpec, get_model
from tests.support.weights import build_seeded
from tests.testing import TestResult, TestRunner

# name: (nodes, parameters + buffers + constants, edges)
KNOWN = {
    "SelfAttention": (18, 16_640, 20),
    "CrossAttention": (18, 16_640, 20),
    "TransformerBlock": (25, 49_984, 29),
    "SiameseEncoder": (22, 109_760, 22),
    "MultiTaskHead": (15, 218_128, 15),
    "RecurrentUnroll": (10, 1_056, 10),
    "WeightTying": (5, 14_820, 5),
    "DeepResNet": (27, 57_617, 30),
    "DenseBlock": (26, 39_776, 30),
}


def test_model(
    model_spec: TestModelSpec, rtol: float, atol: float, report_collector: Callable[[TestResult], None]
) -> None:
    result = TestRunner(rtol=rtol, atol=atol).run_single_test(model_spec)
    report_collector(result)
    assert result.passed, result.error_message
    assert result.verification_report is not None
    assert result.verification_report.num_outputs == len(result.ir.graph_outputs) > 0  # type: ignore[union-attr]


def test_float32_results_are_the_same_to_the_bit(model_spec: TestModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    # PyTorch's attention layers have a fused kernel for eager mode that rounds differently.
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)
    result = TestRunner(rtol=0.0, atol=0.0).run_single_test(model_spec)
    assert result.passed, result.error_message


@pytest.mark.parametrize("name", list(KNOWN))
def test_figures_of_the_known_models(name: str) -> None:
    stats = TestRunner().run_single_test(name).statistics
    assert stats is not None
    assert (stats.num_nodes, stats.total_weight_params, stats.num_edges) == KNOWN[name]


def test_weights_are_seeded_and_never_constant(model_spec: TestModelSpec) -> None:
    state = torch.get_rng_state()
    first, second = build_seeded(model_spec.build), build_seeded(model_spec.build)
    assert torch.equal(state, torch.get_rng_state())
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    for name, value in first.named_parameters():
        assert value.numel() < 2 or value.unique().numel() > 1, f"'{name}' is one value throughout"
    for name, value in first.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            assert value.unique().numel() > 1, f"'{name}' is one value throughout"


def test_known_models_come_first_and_in_order() -> None:
    from tests.models import list_models

    assert [s.name for s in list_models()][: len(KNOWN)] == list(KNOWN)
    assert get_model("WeightTying").input_shapes == [(16,)]
    assert get_model("SiameseEncoder").input_shapes == [(3, 64, 64), (3, 64, 64)]
