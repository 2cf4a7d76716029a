"""Caches of int8: each row, the key or value of one token and head, has a scale of its own."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["dequantized_rows", "quantized_rows"]

_LARGEST = 127


def quantized_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """int8, and scales in float32 without the last dimension. A row that is not finite gets a scale that is not finite
    and integers of 0, whose products are NaN; so is what attention computes from it."""
    wide = rows.float()
    scales = wide.abs().amax(-1) / _LARGEST
    # The rounding of a subnormal scale may lead beyond the largest integer.
    integers = (wide / scales[..., None]).round().clamp(-_LARGEST, _LARGEST)
    return torch.where(integers == integers, integers, 0.0).to(torch.int8), scales


def dequantized_rows(integers: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """As the compiler recognises it: attention then reads the integers."""
    return (integers.float() * scales[..., None]).to(dtype)
