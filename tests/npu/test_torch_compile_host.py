"""What ``torch.compile(model, backend="npu")`` leaves to PyTorch on the host, and what it says about it."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from npu.dynamo.notices import HostWarning
from npu_base.errors import InvalidValueError, NPUError
from torch import Tensor, nn

from tests.support.devices import chosen_device
from tests.support.dynamo import X, compiled, fresh_dynamo, same
from tests.support.weights import build_seeded

__all__ = ["fresh_dynamo"]


def test_operators_without_kernels_run_on_the_host() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.linalg.pinv(x * 2).relu() + 1

    run = torch.compile(function, backend="npu", options={"device": chosen_device()})
    with pytest.warns(HostWarning, match=r"nodes of a graph run on the host"):
        got = run(X)
    torch.testing.assert_close(got, function(X))
    with pytest.raises(NPUError, match=r"linalg_pinv|svd"):
        compiled(function)(X)


def test_host_parts_see_changed_parameters() -> None:
    model = nn.Linear(4, 4)
    run = torch.compile(lambda x: torch.linalg.det(model(x)), backend="npu", options={"device": chosen_device()})
    x = torch.randn(4, 4)
    with pytest.warns(HostWarning):
        torch.testing.assert_close(run(x), torch.linalg.det(model(x)))
    model.weight.mul_(2)
    torch.testing.assert_close(run(x), torch.linalg.det(model(x)))


def test_random_numbers_are_pytorchs() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.rand_like(x) + x * torch.randn(4)

    run = torch.compile(function, backend="npu", options={"device": chosen_device()})
    torch.manual_seed(1)
    with pytest.warns(HostWarning):
        got = run(X)
    torch.manual_seed(1)
    torch.testing.assert_close(got, function(X))


def test_modules_in_training_mode_without_gradients() -> None:
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU())
    ours = build_seeded(lambda: nn.Sequential(*layers)).train()
    torchs, x = copy.deepcopy(ours), torch.randn(2, 3, 6, 6)
    run = torch.compile(ours, backend="npu", options={"device": chosen_device()})
    for seed in range(3):
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HostWarning)
            got = run(x)
        torch.manual_seed(seed)
        same(got, torchs(x))
    same(ours[1].state_dict(), torchs[1].state_dict())
    assert ours[1].num_batches_tracked == 7 + 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
def test_dtypes_of_no_device_run_on_the_host(dtype: torch.dtype) -> None:
    run = torch.compile(lambda x: x * 2 + 1, backend="npu", options={"device": chosen_device()})
    with pytest.warns(HostWarning):
        same(run(X.to(dtype)), X.to(dtype) * 2 + 1)


def test_graphs_that_no_ir_holds_run_on_the_host_as_a_whole() -> None:
    def function(x: Tensor) -> Tensor:
        half = (x + torch.tensor([1.0, 2, 3, 4])).to(torch.complex32)
        return half.real * 2

    run = torch.compile(function, backend="npu", options={"device": chosen_device()})
    with pytest.warns(HostWarning, match="as a whole: NumPy has no complex32"):
        same(run(X), function(X))
    with pytest.raises(InvalidValueError, match=r"cannot be compiled for the device.*complex32.*'fallback': 'host'"):
        compiled(lambda x: function(x) + 1)(X)


def test_conjugates_that_pytorch_leaves_lazy() -> None:
    run = torch.compile(torch.fft.ifft, backend="npu", options={"device": chosen_device()})
    with pytest.warns(HostWarning):
        torch.testing.assert_close(run(X), torch.fft.ifft(X))


def test_explain_prints_the_parts(capfd: pytest.CaptureFixture[str]) -> None:
    compiled(lambda x: x * 2 + 1, options={"explain": True})(X)
    assert "2 nodes on the device, 0 on the host" in capfd.readouterr().out
