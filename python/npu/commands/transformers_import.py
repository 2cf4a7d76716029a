"""What all commands on Hugging Face models do before they import transformers."""

from __future__ import annotations

import sys

__all__ = ["leave_out_torchvision"]


def leave_out_torchvision() -> None:
    """transformers imports torchvision if it is installed. That takes a second, and only image processors need it."""
    if "torchvision" not in sys.modules:
        sys.modules["torchvision"] = None  # type: ignore[assignment]
