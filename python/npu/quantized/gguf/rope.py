"""The rotary embeddings of a GGUF file, as Hugging Face configures them."""

from __future__ import annotations

from math import pi
from typing import Any

import numpy as np
import numpy.typing as npt

from npu.quantized.errors import refuse
from npu.quantized.gguf.file import GGUFFile
from npu.quantized.gguf.metadata import Metadata

__all__ = ["FREQUENCIES", "llama3_factors", "rope_config"]

FREQUENCIES = "rope_freqs.weight"
"""What each frequency of Llama 3 is divided by: all that a file has of its scaling."""

_LOW, _HIGH = 1.0, 4.0  # of all Llama 3 models
_CONTEXTS = tuple(2**n for n in (13, *range(5, 13), *range(14, 21)))  # 8192 first
_TOLERANCE = 1e-5


def rope_config(metadata: Metadata, file: GGUFFile, head_dim: int) -> dict[str, Any]:
    theta = metadata.number(".rope.freq_base", 10000.0)
    config: dict[str, Any] = {"rope_theta": theta}
    kind = metadata.text(".rope.scaling.type", "none")
    if FREQUENCIES in file.tensors:
        config["rope_scaling"] = _llama3(file, theta, head_dim)
    elif kind in ("linear", "yarn"):
        scaling: dict[str, Any] = {"rope_type": kind, "factor": metadata.number(".rope.scaling.factor")}
        if kind == "yarn":
            original = metadata.count(".rope.scaling.original_context_length")
            scaling["original_max_position_embeddings"] = original
        config["rope_scaling"] = scaling
    elif kind != "none":
        metadata.refuse(".rope.scaling.type", "is not supported", kind, "none, linear or yarn")
    return config


def llama3_factors(theta: float, head_dim: int, factor: float, original: int) -> npt.NDArray[np.float64]:
    """What the frequencies are divided by."""
    wavelengths = 2 * pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = np.clip((original / wavelengths - _LOW) / (_HIGH - _LOW), 0, 1)
    factors: npt.NDArray[np.float64] = 1 / ((1 - smooth) / factor + smooth)
    return factors


def _llama3(file: GGUFFile, theta: float, head_dim: int) -> dict[str, Any]:
    """Files have the factors of frequencies, not the parameters that they were computed with."""
    tensor = file.tensors[FREQUENCIES]
    if tensor.kind != 0 or tensor.shape != (head_dim // 2,):
        refuse(tensor.where, "has another type or shape", got=list(tensor.shape), expected=f"float32 [{head_dim // 2}]")
    stored = tensor.bytes.view(np.float32).astype(np.float64)
    factor = float(stored.max(initial=1.0))
    for original in _CONTEXTS if np.isfinite(factor) and factor > 0 else ():
        if np.allclose(llama3_factors(theta, head_dim, factor, original), stored, rtol=_TOLERANCE, atol=0):
            return {
                "rope_type": "llama3", "factor": factor, "low_freq_factor": _LOW, "high_freq_factor": _HIGH,
                "original_max_position_embeddings": original,
            }  # fmt: skip
    return refuse(tensor.where, "scales frequencies in an unknown way", expected="that of Llama 3")
