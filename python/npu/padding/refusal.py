"""What stops a proof."""

from __future__ import annotations

__all__ = ["Unproven"]


class Unproven(Exception):
    """Why padding is not known to keep the results of a node, as the end of a sentence, and which node it is."""

    def __init__(self, why: str, where: str = "") -> None:
        super().__init__(why)
        self.why, self.where = why, where
