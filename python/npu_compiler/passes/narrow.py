"""A float32 model computes in a half dtype inside; see ``compile(compute_dtype=...)``."""

from __future__ import annotations

from ..graph import Graph


def narrow(graph: Graph, dtype: str) -> None:
    raise NotImplementedError
