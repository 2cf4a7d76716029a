"""The passes, in the order in which they run. Each can be left out by name; a program is right without any of them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from npu_base.errors import InvalidValueError

from ..graph import Graph, Op
from ..verify import verify
from .alias import alias
from .attention import fuse_attention
from .batch_norm import fold_batch_norm
from .epilogue import fuse_epilogues
from .fuse import fuse_casts, fuse_maps
from .merge_products import merge_products
from .norms import fuse_layer_norm, fuse_rms_norm
from .place_cat import place_cat
from .rope import fuse_rope
from .rows import needed_rows
from .simplify import cse, dead_code, hoist

__all__ = ["INEXACT", "PASSES", "run_passes"]

PASSES: tuple[tuple[str, Callable[[Graph], None]], ...] = (
    ("dead_code", dead_code),
    ("cse", cse),
    ("fold_batch_norm", fold_batch_norm),
    ("hoist", hoist),
    ("fuse_rms_norm", fuse_rms_norm),
    ("fuse_layer_norm", fuse_layer_norm),
    ("fuse_attention", fuse_attention),
    ("fuse_rope", fuse_rope),
    ("needed_rows", needed_rows),
    ("merge_products", merge_products),
    ("fuse_maps", fuse_maps),
    ("fuse_epilogues", fuse_epilogues),
    ("fuse_casts", fuse_casts),
    ("place_cat", place_cat),
    ("dead_code", dead_code),
    ("alias", alias),
)
REQUIRED = frozenset({"alias"})
"""What the program means hangs on these."""
INEXACT = frozenset({"fold_batch_norm", "fuse_rms_norm", "fuse_layer_norm", "fuse_attention", "fuse_rope"})
"""They compute in another order than eager mode, or round less often."""


def run_passes(graph: Graph, disable: Collection[str] = ()) -> None:
    known = {name for name, _ in PASSES}
    unknown = sorted(set(disable) - known)
    if unknown or set(disable) & REQUIRED:
        raise InvalidValueError(
            f"[compiler] cannot disable {unknown or sorted(REQUIRED)}; expected any of {sorted(known - REQUIRED)}"
        )
    checked: set[Op] = set()
    verify(graph, "lowering", checked)
    for name, run in PASSES:
        if name not in disable:
            run(graph)
            verify(graph, name, checked)
    verify(graph, "the passes")
