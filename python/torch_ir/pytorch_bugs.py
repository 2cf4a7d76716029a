"""Works around bugs of PyTorch that would make a trace wrong, in the versions that have them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch._decomp import decompositions

__all__ = ["worked_around"]


@contextmanager
def worked_around() -> Iterator[None]:
    """While the caller has the lock for tracing."""
    original = getattr(decompositions, "one_layer_lstm", None)
    if original is None:
        yield
        return

    def one_layer_lstm(*args: Any, **kwargs: Any) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Before 2.13, each layer's states kept an axis of size 1 that eager PyTorch does not have."""
        out, (hidden, cell) = original(*args, **kwargs)
        return out, (_without_first_axis(hidden), _without_first_axis(cell))

    decompositions.one_layer_lstm = one_layer_lstm
    try:
        yield
    finally:
        decompositions.one_layer_lstm = original


def _without_first_axis(state: Tensor) -> Tensor:
    return state.squeeze(0) if state.dim() == 3 else state
