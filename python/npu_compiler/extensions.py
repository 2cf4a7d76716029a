"""Whether the compiler has been extended."""

from __future__ import annotations

from . import ops as _ops  # noqa: F401  (registers the lowerings)
from .lowering import LOWERINGS
from .passes import PASSES

__all__ = ["is_extended"]

_LOWERINGS, _PASSES = dict(LOWERINGS), list(PASSES)


def is_extended() -> bool:
    """Whether lowerings or passes were registered or replaced, so that programs may differ from this version's."""
    return _LOWERINGS != LOWERINGS or _PASSES != PASSES
