"""A tensor's name, shape and dtype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["TensorSpec"]


@dataclass
class TensorSpec:
    """``dtype`` is PyTorch's name, such as "float32"."""

    name: str
    shape: Sequence[int]
    dtype: str
