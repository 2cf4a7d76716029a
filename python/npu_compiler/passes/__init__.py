"""The passes in the order in which they run. Each can be disabled by name; programs are correct without any of them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from npu_base.errors import InvalidTypeError, InvalidValueError

from ..errors import ExtensionError, InternalCompileError, described
from ..graph import Graph, Op
from ..registry import full_name
from ..verify import Verified, signature_of, verify
from .alias import alias
from .attention import fuse_attention
from .batch_norm import fold_batch_norm
from .epilogue import fuse_epilogues
from .fuse import fuse_casts, fuse_maps
from .merge_products import merge_products
from .norms import fuse_layer_norm, fuse_rms_norm
from .place_cat import place_cat
from .quantized import quantized_products
from .rope import fuse_rope
from .rows import needed_rows
from .short_sums import unroll_short_sums
from .simplify import cse, dead_code, hoist
from .sum_convolutions import sum_convolutions

__all__ = ["INEXACT", "PASSES", "register_pass", "run_passes", "unregister_pass"]

Pass = tuple[str, Callable[[Graph], None]]

PASSES: list[Pass] = [
    ("dead_code", dead_code),
    ("cse", cse),
    ("quantized_products", quantized_products),
    ("fold_batch_norm", fold_batch_norm),
    ("sum_convolutions", sum_convolutions),
    ("hoist", hoist),
    ("fuse_rms_norm", fuse_rms_norm),
    ("fuse_layer_norm", fuse_layer_norm),
    ("fuse_attention", fuse_attention),
    ("fuse_rope", fuse_rope),
    ("needed_rows", needed_rows),
    ("merge_products", merge_products),
    ("unroll_short_sums", unroll_short_sums),
    ("fuse_maps", fuse_maps),
    ("fuse_epilogues", fuse_epilogues),
    ("fuse_casts", fuse_casts),
    ("place_cat", place_cat),
    ("dead_code", dead_code),
    ("alias", alias),
]
REQUIRED = frozenset({"alias"})
"""These give the program its meaning, and cannot be disabled."""
INEXACT = {
    "quantized_products",
    "fold_batch_norm",
    "sum_convolutions",
    "unroll_short_sums",
    "fuse_rms_norm",
    "fuse_layer_norm",
    "fuse_attention",
    "fuse_rope",
}
"""These compute in another order than eager mode, or round less often."""
_OWN = frozenset(name for name, _ in PASSES)


def register_pass(
    name: str,
    function: Callable[[Graph], None],
    *,
    before: str | None = None,
    exact: bool = False,
    replace: bool = False,
) -> None:
    """Adds a pass to all later compilations. It runs before the first pass called ``before``, or else after all passes
    but the required ones. Unless it is ``exact``, its results may be rounded differently, and ``compile(exact=True)``
    leaves it out. ``replace`` replaces a pass that was registered under this name.

    Raises:
        InvalidValueError: the name is taken, or ``before`` is no pass.
    """
    if not isinstance(name, str) or not name:
        raise InvalidTypeError(f"[compiler] a pass needs a name; got {name!r}; expected text")
    if not callable(function):
        got = type(function).__name__
        raise InvalidTypeError(
            f"[compiler] the pass '{name}' must be callable; got {got}; expected a function of a Graph"
        )
    if before is not None and not isinstance(before, str):
        got = type(before).__name__
        raise InvalidTypeError(f"[compiler] before must be the name of a pass; got {got}; expected text, or None")
    known = [entry for entry, _ in PASSES]
    if name in _OWN or (name in known and not replace):
        hint = f"another name, and compile(disable='{name}')" if name in _OWN else "another name, or replace=True"
        raise InvalidValueError(f"[compiler] there is a pass '{name}' already; expected a new name; try {hint}")
    following = "alias" if before is None else before
    if following not in known or following == name:
        others = sorted(set(known) - {name})
        raise InvalidValueError(
            f"[compiler] there is no pass '{before}' to run '{name}' before; expected one of {others}"
        )
    if name in known:
        unregister_pass(name)
    PASSES.insert([entry for entry, _ in PASSES].index(following), (name, function))
    if not exact:
        INEXACT.add(name)


def unregister_pass(name: str) -> None:
    """Removes a registered pass.

    Raises:
        InvalidValueError: no pass was registered under this name.
    """
    if not isinstance(name, str):
        got = type(name).__name__
        raise InvalidTypeError(f"[compiler] unregister_pass(name) takes one name; got {got}; expected text")
    registered = sorted({entry for entry, _ in PASSES} - _OWN)
    if name not in registered:
        expected = f"one of {registered}" if registered else "a registered pass, and there is none"
        raise InvalidValueError(f"[compiler] no pass '{name}' was registered; expected {expected}")
    PASSES[:] = [entry for entry in PASSES if entry[0] != name]
    INEXACT.discard(name)


def run_passes(graph: Graph, disable: Collection[str] = (), checked: Collection[Op] = ()) -> None:
    """``checked`` are ops that are known to be valid."""
    known = {name for name, _ in PASSES}
    unknown = sorted(set(disable) - known)
    if unknown or set(disable) & REQUIRED:
        raise InvalidValueError(
            f"[compiler] cannot disable {unknown or sorted(REQUIRED)}; expected any of {sorted(known - REQUIRED)}"
        )
    verified = Verified(set(checked), signature=signature_of(graph))
    verify(graph, "lowering", verified, "; please report this with the IR")
    for name, function in PASSES:
        if name not in disable:
            _run(name, function, graph, verified)
    verify(graph, "the passes", hint="; please report this with the IR")


def _run(name: str, function: Callable[[Graph], None], graph: Graph, verified: Verified) -> None:
    """An error names the pass, and whose it is."""
    ours = name in _OWN
    what = f"the pass '{name}'" if ours else f"your pass '{name}' ({full_name(function)})"
    hint = f"; try compile(disable='{name}'), and please report this with the IR"
    hint = hint if ours and name not in REQUIRED else "; please report this with the IR" if ours else ""
    before = graph.changes
    try:
        function(graph)
    except Exception as error:
        kind = InternalCompileError if ours else ExtensionError
        raise kind(f"[compiler] {what} failed: {described(error)}{hint}") from error
    # A pass that found nothing to do left what was verified; the last check, of everything, trusts no pass.
    if not ours or graph.changes != before:
        verify(graph, what, verified, hint)
