"""The rule for how close results must be, as assertions: see docs/exactness.md."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from npu.comparison import rule


def error(got: Any, exact: torch.Tensor) -> float:
    """Relative Frobenius norm; what is infinite or NaN must be so in both."""
    wanted = exact.detach().to(torch.float64)
    value = torch.as_tensor(np.asarray(got).astype(np.float64)) if not isinstance(got, torch.Tensor) else got.double()
    assert value.shape == wanted.shape, f"shape {list(value.shape)}, expected {list(wanted.shape)}"
    finite = torch.isfinite(wanted)
    assert torch.equal(finite, torch.isfinite(value)), "infinite or NaN in other places"
    assert torch.equal(wanted[~finite].nan_to_num(nan=0.5), value[~finite].nan_to_num(nan=0.5))
    return rule.relative_error(value.detach().numpy(), wanted.numpy())


def allowed(torchs_own: float, dtype: torch.dtype) -> float:
    return rule.allowed(torchs_own, str(dtype).removeprefix("torch."))


def holds(got: Any, exact: torch.Tensor, torchs: torch.Tensor) -> bool:
    return error(got, exact) <= allowed(error(torchs, exact), torchs.dtype)


def check(got: Any, exact: torch.Tensor, torchs: torch.Tensor, what: str) -> None:
    """``exact`` is PyTorch's result in float64, ``torchs`` its result in the dtype under test."""
    if not torchs.is_floating_point():
        assert torch.equal(torch.as_tensor(np.asarray(got)), torchs), f"{what}: integers differ"
        return
    ours, limit = error(got, exact), allowed(error(torchs, exact), torchs.dtype)
    assert ours <= limit, f"{what}: error {ours:.3g}, allowed {limit:.3g}"
