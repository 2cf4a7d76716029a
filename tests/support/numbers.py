"""The rule for how close results must be: see "Numbers" in docs/architecture.md."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

EPSILON = {torch.float32: 2.0**-23, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}


def error(got: Any, exact: torch.Tensor) -> float:
    """Relative Frobenius norm; what is infinite or NaN must be so in both."""
    wanted = exact.detach().to(torch.float64)
    value = torch.as_tensor(np.asarray(got).astype(np.float64)) if not isinstance(got, torch.Tensor) else got.double()
    assert value.shape == wanted.shape, f"shape {list(value.shape)}, expected {list(wanted.shape)}"
    finite = torch.isfinite(wanted)
    assert torch.equal(finite, torch.isfinite(value)), "infinite or NaN in other places"
    assert torch.equal(wanted[~finite].nan_to_num(nan=0.5), value[~finite].nan_to_num(nan=0.5))
    wanted, value = wanted[finite], value[finite]
    norm = wanted.norm().item()
    return (value - wanted).norm().item() / norm if norm else value.norm().item()


def allowed(torchs_own: float, dtype: torch.dtype) -> float:
    bound = max(1.5 * torchs_own, 4 * EPSILON[dtype])
    return min(bound, 1e-4) if dtype == torch.float32 else bound


def check(got: Any, exact: torch.Tensor, torchs: torch.Tensor, what: str) -> None:
    """``exact`` is PyTorch's result in float64, ``torchs`` its result in the dtype under test."""
    if not torchs.is_floating_point():
        assert torch.equal(torch.as_tensor(np.asarray(got)), torchs), f"{what}: integers differ"
        return
    ours, limit = error(got, exact), allowed(error(torchs, exact), torchs.dtype)
    assert ours <= limit, f"{what}: error {ours:.3g}, allowed {limit:.3g}"
