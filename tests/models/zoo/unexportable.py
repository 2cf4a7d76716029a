"""Architectures that PyTorch itself cannot trace or run, each with its reason.

A test asserts that each still fails, and for that reason; when one begins to work, it moves to its table.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .harness import ZooEntry
from .huggingface_base import DECODER, encoder, ids_only, other


@dataclass(frozen=True)
class Unexportable:
    """``message`` is a pattern that the failure's text matches."""

    entry: ZooEntry
    dtypes: tuple[torch.dtype, ...]
    message: str
    reason: str


_BOTH = (torch.float32, torch.bfloat16)

UNEXPORTABLE = [
    Unexportable(
        encoder("Longformer", attention_window=[4, 4]),
        _BOTH,
        r"data-dependent expression",
        "branches in Python on `.any().item()` of its mask",
    ),
    Unexportable(
        encoder("Nystromformer", num_landmarks=4, segment_means_seq_len=12),
        _BOTH,
        r"Attempting to broadcast a dimension of length 12",
        "adds a full mask to scores of another shape; eager fails alike when the mask hides anything",
    ),
    Unexportable(
        other("FNet", "FNetForMaskedLM", "FNetConfig", ids_only, **DECODER),
        (torch.bfloat16,),
        r"Unsupported dtype BFloat16",
        "PyTorch has no Fourier transform of bfloat16; eager fails alike",
    ),
]
