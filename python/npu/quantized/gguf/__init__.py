"""GGUF files: weights, configuration and tokenizer in one."""

from __future__ import annotations

from npu.quantized.gguf.opening import open_gguf

__all__ = ["open_gguf"]
