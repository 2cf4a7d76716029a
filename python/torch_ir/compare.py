"""Compares tensors. Integers and bools must be equal, and NaNs and infinities must be in the same positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from npu_base.errors import InvalidValueError
from torch import Tensor

# (rtol, atol) for results of the same operators; larger for less precise dtypes.
TOLERANCES: dict[torch.dtype, tuple[float, float]] = {
    torch.float64: (1e-7, 1e-7),
    torch.float32: (1e-5, 1e-5),
    torch.float16: (1e-3, 1e-3),
    torch.bfloat16: (1.6e-2, 1e-2),
    torch.complex128: (1e-7, 1e-7),
    torch.complex64: (1e-5, 1e-5),
}
_DEFAULT = (1e-5, 1e-5)


@dataclass(frozen=True)
class Comparison:
    """The differences of two tensors. ``reason`` says why they are not close."""

    is_close: bool
    max_diff: float
    mean_diff: float
    reason: str = ""


def check_tolerances(rtol: float | None, atol: float | None) -> None:
    for name, value in (("rtol", rtol), ("atol", atol)):
        if value is not None and (not isinstance(value, int | float) or not value >= 0):
            raise InvalidValueError(
                f"{name}: expected a number of 0 or more, or None for the dtype's own, got {value!r}"
            )


def compare(a: Tensor, b: Tensor, rtol: float | None = None, atol: float | None = None) -> Comparison:
    """Compare a result with its reference. The default tolerances depend on the reference's dtype."""
    if a.shape != b.shape:
        return Comparison(False, math.inf, math.inf, f"shape {list(a.shape)} instead of {list(b.shape)}")
    default_rtol, default_atol = TOLERANCES.get(b.dtype, _DEFAULT)
    rtol = default_rtol if rtol is None else rtol
    atol = default_atol if atol is None else atol
    if a.dtype != b.dtype:
        return _other_dtype(a, b)
    if a.numel() == 0:
        return Comparison(True, 0.0, 0.0)
    a, b = a.detach().cpu(), b.detach().cpu()
    if not (a.is_floating_point() or a.is_complex()):
        return _exact(a, b)
    return _approximate(a, b, rtol, atol)


def _other_dtype(a: Tensor, b: Tensor) -> Comparison:
    reason = f"dtype {a.dtype} instead of {b.dtype}"
    if a.numel() == 0:
        return Comparison(False, 0.0, 0.0, reason)
    wide = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
    seen = _approximate(a.detach().cpu().to(wide), b.detach().cpu().to(wide), 0.0, 0.0)
    return Comparison(False, seen.max_diff, seen.mean_diff, reason)


def _exact(a: Tensor, b: Tensor) -> Comparison:
    different = a != b
    if not bool(different.any()):
        return Comparison(True, 0.0, 0.0)
    if a.dtype == torch.bool:
        gap = different.double()
    else:
        # Unsigned and 64-bit differences overflow their own type; float64 shows their size well enough,
        # and a difference too small for it counts as one.
        gap = (a[different].double() - b[different].double()).abs().clamp(min=1.0)
    count = int(different.sum())
    return Comparison(False, float(gap.max()), float(gap.sum()) / a.numel(), f"{count} of {a.numel()} elements differ")


def _approximate(a: Tensor, b: Tensor, rtol: float, atol: float) -> Comparison:
    wide = torch.complex128 if a.is_complex() else torch.float64
    a, b = a.to(wide), b.to(wide)
    same = (a == b) | (torch.isnan(a) & torch.isnan(b))
    gap = torch.where(same, torch.zeros_like(a, dtype=torch.float64), (a - b).abs())
    # A NaN or an infinity on one side only is an infinite difference.
    gap = torch.where(torch.isfinite(gap), gap, torch.full_like(gap, math.inf))
    size = torch.where(torch.isfinite(b.abs()), b.abs(), torch.zeros_like(gap))
    is_close = bool((same | (gap <= atol + rtol * size)).all())
    reason = "" if is_close else _describe(a, b, gap)
    return Comparison(is_close, float(gap.max()), float(gap.mean()), reason)


def _describe(a: Tensor, b: Tensor, gap: Tensor) -> str:
    if bool((torch.isnan(a) != torch.isnan(b)).any()):
        return "NaN on one side only"
    if bool(torch.isinf(gap).any()):
        return "infinite on one side only"
    return "values differ"


def relative_error(a: Tensor, b: Tensor) -> float:
    """Frobenius norm of the difference over that of the reference."""
    if a.shape != b.shape or a.numel() == 0:
        return 0.0 if a.shape == b.shape else math.inf
    wide = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
    a, b = a.detach().cpu().to(wide), b.detach().cpu().to(wide)
    difference = torch.where((a == b) | (torch.isnan(a) & torch.isnan(b)), torch.zeros_like(a), a - b)
    reference = torch.where(torch.isfinite(b.abs()), b, torch.zeros_like(b)).norm()
    error = float(difference.norm())
    if error == 0.0:
        return 0.0
    return math.inf if math.isnan(error) or float(reference) == 0.0 else error / float(reference)
