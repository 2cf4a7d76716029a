"""Quantised weights in files: readers of the formats that people have, and what makes and writes quantised models."""

from __future__ import annotations

from npu.quantized.checkpoint import Checkpoint, Entry
from npu.quantized.opening import is_quantized, open_checkpoint
from npu.quantized.tensors import QuantizedTensor

__all__ = ["Checkpoint", "Entry", "QuantizedTensor", "is_quantized", "open_checkpoint"]
