"""Versions of PyTorch: an older one than that of constraints-dev.txt exports some modules in another way, or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from npu_compiler import CompileError
from torch_ir import ConversionError, ExportError

PINNED = (2, 13)
TORCH = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])


@contextmanager
def skipping_what_older_versions_do_not_export() -> Iterator[None]:
    """With an older PyTorch, a refusal to export or compile skips the test, with the reason."""
    try:
        yield
    except (ConversionError, ExportError, CompileError) as error:
        if TORCH >= PINNED:
            raise
        words = " ".join(str(error).split())
        pytest.skip(f"PyTorch {torch.__version__} does not export this as newer ones do: {words[:160]}")
