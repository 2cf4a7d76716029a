"""PyTorch's fused kernel for transformer encoders, for which a call of a model may differ from its code as written.

In evaluation mode, eager ``nn.MultiheadAttention`` and ``nn.TransformerEncoder`` may use a kernel that no trace
contains. It rounds differently, and with a padding mask the encoder writes zeros to hidden rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .compare import compare

__all__ = ["fast_path_note", "has_fast_path", "layers_as_written"]

_LAYERS = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)


@contextmanager
def layers_as_written() -> Iterator[None]:
    """Disable the kernel inside the block."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def has_fast_path(model: nn.Module) -> bool:
    """Whether a call of the model may use the kernel."""
    return torch.backends.mha.get_fastpath_enabled() and any(isinstance(m, _LAYERS) for m in model.modules())


def fast_path_note(written: list[Any], called: list[Any], rtol: float | None, atol: float | None) -> str | None:
    """The differences between the two runs of a model as text, or None."""
    pairs = zip(written, called, strict=True)
    tensors = [(i, a, b) for i, (a, b) in enumerate(pairs) if isinstance(a, Tensor) and isinstance(b, Tensor)]
    differing = [(i, a, b) for i, a, b in tensors if not compare(b, a, 0.0, 0.0).is_close]
    if not differing:
        return None
    differences = [_difference(i, a, b) for i, a, b in differing if not compare(b, a, rtol, atol).is_close]
    rounding = max(compare(b, a).max_diff for _, a, b in differing)
    what = (
        f"differs from it: {'; '.join(differences)}"
        if differences
        else f"rounds differently, by {rounding:.1e} at most"
    )
    return (
        "the IR was compared with the model as its code is written, without PyTorch's fused kernel for transformer "
        f"encoders (torch.backends.mha.set_fastpath_enabled(False)). The model as called in evaluation {what}"
    )


def _difference(index: int, written: Tensor, called: Tensor) -> str:
    if written.shape != called.shape:  # nested tensors are padded only to their longest row
        return f"output {index} has the shape {list(called.shape)} instead of {list(written.shape)}"
    unequal = ~torch.isclose(called, written, rtol=1e-3, atol=1e-5, equal_nan=True)
    largest = compare(called, written).max_diff
    text = f"output {index} in {int(unequal.sum())} of {unequal.numel()} elements, by {largest:.1e} at most"
    if bool(unequal.any()) and not bool(called[unequal].any()):
        text += ", where it has zeros: rows that a padding mask hides"
    return text
