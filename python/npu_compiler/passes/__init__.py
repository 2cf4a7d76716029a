"""The passes, in the order in which they run. Each can be left out by name; a program is right without any of them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from npu_base.errors import InvalidTypeError, InvalidValueError

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

__all__ = ["INEXACT", "PASSES", "register_pass", "run_passes", "unregister_pass"]

Pass = tuple[str, Callable[[Graph], None]]

PASSES: list[Pass] = [
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
]
REQUIRED = frozenset({"alias"})
"""What the program means hangs on these."""
INEXACT = {"fold_batch_norm", "fuse_rms_norm", "fuse_layer_norm", "fuse_attention", "fuse_rope"}
"""They compute in another order than eager mode, or round less often."""
_OWN = frozenset(name for name, _ in PASSES)


def register_pass(
    name: str,
    function: Callable[[Graph], None],
    *,
    before: str | None = None,
    exact: bool = False,
    replace: bool = False,
) -> None:
    """Has every compilation from now on run a pass: ``before`` the first of that name, or after all that improve a
    program. Unless it is ``exact``, it may change what is computed by roundings, and ``compile(exact=True)`` leaves it
    out. ``replace`` takes the place of a pass that was registered under this name."""
    if not isinstance(name, str) or not name:
        raise InvalidTypeError(f"[compiler] a pass needs a name; got {name!r}; expected text")
    if not callable(function):
        got = type(function).__name__
        raise InvalidTypeError(f"[compiler] the pass '{name}' is no function; got {got}; expected one of a Graph")
    known = [entry for entry, _ in PASSES]
    if name in _OWN or (name in known and not replace):
        hint = f"another name, and compile(disable='{name}')" if name in _OWN else "another name, or replace=True"
        raise InvalidValueError(f"[compiler] there is a pass '{name}' already; expected a new name; try {hint}")
    following = before or "alias"
    if following not in known or following == name:
        raise InvalidValueError(
            f"[compiler] no pass '{before}' to run '{name}' before; expected any of {sorted(set(known) - {name})}"
        )
    if name in known:
        unregister_pass(name)
    PASSES.insert([entry for entry, _ in PASSES].index(following), (name, function))
    if not exact:
        INEXACT.add(name)


def unregister_pass(name: str) -> None:
    """Takes a registered pass away again."""
    registered = {entry for entry, _ in PASSES} - _OWN
    if name not in registered:
        raise InvalidValueError(f"[compiler] no pass '{name}' was registered; expected any of {sorted(registered)}")
    PASSES[:] = [entry for entry in PASSES if entry[0] != name]
    INEXACT.discard(name)


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
