"""The operator ``torchao.dequantize_affine``, registered here where the package is not installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

__all__ = ["dequantize_affine"]

_SCHEMA = (
    "dequantize_affine(Tensor input, int[] block_size, Tensor scale, Tensor? zero_point, ScalarType input_dtype, "
    "Scalar? quant_min=None, Scalar? quant_max=None, ScalarType output_dtype=6) -> Tensor"
)


def _numbers(
    input: Tensor, block_size: list[int], scale: Tensor, zero_point: Tensor | None, input_dtype: torch.dtype,
    quant_min: float | None = None, quant_max: float | None = None, output_dtype: torch.dtype = torch.float32,
) -> Tensor:  # fmt: skip
    blocks = [size // n for size, n in zip(input.shape, block_size, strict=True)]
    scales, zeros = (None if x is None else x.reshape(blocks).to(output_dtype) for x in (scale, zero_point))
    for axis, n in enumerate(block_size):
        scales, zeros = (None if x is None else x.repeat_interleave(n, axis) for x in (scales, zeros))
    numbers = input.to(output_dtype)
    return (numbers if zeros is None else numbers - zeros) * scales


if importlib.util.find_spec("torchao") is not None:
    import torchao  # noqa: F401
else:
    _library = torch.library.Library("torchao", "FRAGMENT")
    _library.define(_SCHEMA)
    _library.impl("dequantize_affine", _numbers, "CompositeExplicitAutograd")
    _library.impl("dequantize_affine", _numbers, "Meta")


def dequantize_affine(
    q: Tensor, block: list[int], scale: Tensor, zeros: Tensor | None, limits: Any, out: Any
) -> Tensor:
    """``limits`` are the least and the greatest integer, or None."""
    if out == torch.float64:  # which torchao does not take
        return _numbers(q, block, scale, zeros, q.dtype, *limits, out)
    return torch.ops.torchao.dequantize_affine(q, block, scale, zeros, q.dtype, *limits, out)  # type: ignore[no-any-return]
