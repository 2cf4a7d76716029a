"""What stops a proof."""

from __future__ import annotations

__all__ = ["Unproven"]


class Unproven(Exception):
    """Why padding is not known to keep the results of a node. It is the end of a sentence about the node."""
