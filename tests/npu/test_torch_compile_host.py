"""What ``torch.compile(model, backend="npu")`` leaves to PyTorch on the host, and what it says about it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from npu.dynamo.notices import HostWarning
from npu_base.errors import InvalidValueError, NPUError
from torch import Tensor, nn
from torch._higher_order_ops.effects import _EffectType, _register_effectful_op
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

from tests.support.devices import chosen_device
from tests.support.dynamo import X, compiled, fresh_dynamo, same
from tests.support.versions import PINNED, TORCH
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_scalars_of_the_host_have_no_dimension(dtype: torch.dtype) -> None:
    def squeezed(x: Tensor) -> Tensor:
        return torch.squeeze_copy(x)

    x = torch.tensor(1, dtype=dtype)
    run = torch.compile(squeezed, backend="npu", options={"device": chosen_device()})
    with pytest.warns(HostWarning), torch.no_grad():
        same(run(x), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_host_results_have_the_dtype_of_the_trace(dtype: torch.dtype) -> None:
    """PyTorch's kernels on the CPU return statistics of halves in halves, and its traces say float32."""

    def normalized(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return nn.functional.instance_norm(x, mean, variance, use_input_stats=True)

    x, mean, variance = torch.randn(4, 3, 20).to(dtype), torch.zeros(3, dtype=dtype), torch.ones(3, dtype=dtype)
    wanted = (mean.clone(), variance.clone())
    run = torch.compile(normalized, backend="npu", options={"device": chosen_device()})
    with pytest.warns(HostWarning), torch.no_grad():
        same(run(x, mean, variance), normalized(x, *wanted))
    same((mean, variance), wanted)


def test_graphs_that_no_ir_holds_run_on_the_host_as_a_whole(capfd: pytest.CaptureFixture[str]) -> None:
    def function(x: Tensor) -> Tensor:
        half = (x + torch.tensor([1.0, 2, 3, 4])).to(torch.complex32)
        return half.real * 2

    run = torch.compile(function, backend="npu", options={"device": chosen_device(), "explain": True})
    with pytest.warns(HostWarning, match="as a whole: NumPy has no complex32"):
        same(run(X), function(X))
    assert "a graph runs on the host as a whole: NumPy has no complex32" in capfd.readouterr().out
    with pytest.raises(InvalidValueError, match=r"cannot be compiled for the device.*complex32.*'fallback': 'host'"):
        compiled(lambda x: function(x) + 1)(X)


def test_conjugates_that_pytorch_leaves_lazy() -> None:
    run = torch.compile(torch.fft.ifft, backend="npu", options={"device": chosen_device()})
    with pytest.warns(HostWarning):
        torch.testing.assert_close(run(X), torch.fft.ifft(X))


def partly_on_host(function: Callable[..., Any]) -> Any:
    """Compiled, without the notice."""
    warnings.simplefilter("ignore", HostWarning)
    return torch.compile(function, backend="npu", options={"device": chosen_device()})


def factors(x: Tensor) -> tuple[Tensor, Tensor]:
    """Both factorizations check their matrix, which computes nothing."""
    return torch.linalg.inv(x.relu() * 2).relu(), torch.linalg.cholesky(x - 0.5) * 2


checked = pytest.mark.skipif(TORCH < PINNED, reason="older versions of PyTorch drop these checks in AOTAutograd")


@checked
def test_factorizations_run_on_the_host_and_the_rest_on_the_device(capfd: pytest.CaptureFixture[str]) -> None:
    run = torch.compile(factors, backend="npu", options={"device": chosen_device(), "explain": True})
    x = torch.eye(3) * 3
    with pytest.warns(HostWarning, match=r"of a graph run on the host: _linalg_check_errors.default x2, linalg_"):
        same(run(x), factors(x))
    text = capfd.readouterr().out
    assert "nodes on the device, 8 on the host; 3 parts" in text
    assert "aten._linalg_check_errors.default, 2 times" in text and "built-in" not in text
    with pytest.raises(NPUError, match=r"aten\.linalg_inv_ex\.default(?s:.)*linalg_cholesky_ex"):
        compiled(factors)(x)


@checked
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 3), r"linalg\.inv: .* singular"),  # cholesky would fail too, but later
        (torch.eye(3), r"linalg\.cholesky: .* not positive-definite"),
    ],
)
def test_errors_of_factorizations_are_pytorchs(x: Tensor, message: str) -> None:
    run = partly_on_host(factors)
    for function in (factors, run, run):
        with pytest.raises(torch.linalg.LinAlgError, match=message):
            function(x)
    same(run(torch.eye(3) * 3), factors(torch.eye(3) * 3))


@checked
def test_a_failed_call_writes_nothing() -> None:
    def step(x: Tensor, count: Tensor) -> Tensor:
        count.add_(1)
        return torch.linalg.inv(x)

    run, count = partly_on_host(step), torch.zeros(3)
    with pytest.raises(torch.linalg.LinAlgError):
        run(torch.zeros(2, 2), count)
    assert torch.equal(count, torch.zeros(3))
    torch.testing.assert_close(run(torch.eye(2), count), torch.eye(2))
    assert torch.equal(count, torch.ones(3))


def test_calls_for_their_effect_alone(capfd: pytest.CaptureFixture[str]) -> None:
    def assert_small(x: Tensor) -> None:
        torch.ops.aten._print("checked")
        torch._assert_async((x < 1).all(), "too large")

    run = partly_on_host(assert_small)
    assert run(torch.zeros(2)) is None
    assert "checked" in capfd.readouterr().out
    with pytest.raises(RuntimeError, match="too large"):
        run(torch.ones(2))


ORDER: list[int] = []


@torch.library.custom_op("npu_tests::noted", mutates_args=())
def noted(x: Tensor, number: int) -> Tensor:
    ORDER.append(number)
    return x.sin()


@noted.register_fake
def _(x: Tensor, number: int) -> Tensor:
    return torch.empty_like(x)


def test_operators_with_effects_and_results_keep_their_order() -> None:
    """Also those whose results nobody reads, and that could run before the device has done anything."""

    def function(x: Tensor) -> Tensor:
        y = noted(x.relu() + 1, 1)
        noted(x, 2)
        return noted(y * 2, 3).relu()

    _register_effectful_op(torch.ops.npu_tests.noted.default, _EffectType.ORDERED)
    run = partly_on_host(function)
    ORDER.clear()
    got = run(X)
    assert ORDER == [1, 2, 3]
    torch.testing.assert_close(got, function(X))


def count_up(x: Tensor) -> Tensor:
    return while_loop(lambda x: x.sum() < 100, lambda x: (x.abs() + 1,), (x,))[0].relu()


@torch.library.custom_op("npu_tests::bump", mutates_args={"x"})
def bump(x: Tensor) -> None:
    x.add_(1)


def bumped(x: Tensor) -> Tensor:
    y = x * 2
    bump(y)
    return y.relu()


@pytest.mark.parametrize(
    ("function", "notice"),
    [
        (lambda x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,)).relu(), r"1 of 4 nodes .* on the host: cond"),
        (count_up, r"1 of 2 nodes .* on the host: while_loop"),
        (bumped, r"as a whole: Node 'auto_functionalized_v2'"),
        (lambda x: scan(lambda c, row: (c + row, c * row), x[0], x)[1], r"as a whole: Node 'scan'"),
    ],
    ids=["cond", "while_loop", "auto_functionalized", "scan"],
)
def test_higher_order_operators(
    function: Callable[[Tensor], Tensor], notice: str, capfd: pytest.CaptureFixture[str]
) -> None:
    run = torch.compile(function, backend="npu", options={"device": chosen_device(), "explain": True})
    with pytest.warns(HostWarning, match=notice):
        torch.testing.assert_close(run(X), function(X))
    text = capfd.readouterr().out
    assert "a graph runs on the host as a whole" in text or "on the host;" in text
    torch.compiler.reset()
    with pytest.raises(NPUError):
        compiled(function)(X)


def test_explain_prints_the_parts(capfd: pytest.CaptureFixture[str]) -> None:
    compiled(lambda x: x * 2 + 1, options={"explain": True})(X)
    assert "2 nodes on the device, 0 on the host" in capfd.readouterr().out
