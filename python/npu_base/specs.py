"""What is known of a tensor without its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["TensorSpec"]


@dataclass
class TensorSpec:
    """``dtype`` is PyTorch's name for it, such as "float32"."""

    name: str
    shape: Sequence[int]
    dtype: str
