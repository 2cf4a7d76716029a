"""Norms that are written out by hand, as most language models do, become one op."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..graph import Graph, Op, View
from ..patterns import Match, Pattern, Rule, rewrite
from .match import in_dtype
from .simplify import dead_code


def fuse_rms_norm(graph: Graph) -> None:
    rewrite(graph, RMS_NORM)
    dead_code(graph)


def fuse_layer_norm(graph: Graph) -> None:
    rewrite(graph, LAYER_NORM)
    dead_code(graph)


def _norm(kind: str) -> Callable[[Match], Op | None]:
    def make(m: Match) -> Op | None:
        out, eps, axes = m.root.out, m.numbers["eps"], m.axes or ()
        if not out.is_whole or m["x"].shape != out.shape or not math.isfinite(eps):
            return None
        given_as = [x for x in m.seen("x") if x.shape == out.shape]
        source = next((v for x in given_as if (v := in_dtype(m.graph, x, out.dtype)) is not None), None)
        holes = [hole for hole in ("w", "b") if m.get(hole) is not None]
        given = {hole: _of_last_axes(m[hole], len(axes), out) for hole in holes}
        if source is None or axes != tuple(range(out.rank - len(axes), out.rank)) or None in given.values():
            return None
        inputs = (source, given.get("w"), given.get("b"))[: 3 if kind == "layer" else 2]
        attrs = {"kind": kind, "axes": len(axes), "eps": eps}
        return Op("norm", m.root.name, inputs, (out,), attrs, m.nodes, m.root.module)

    return make


def _of_last_axes(parameter: View, axes: int, out: View) -> View | None:
    """A weight or bias as it lies, if it is the same for all rows and of a dtype that norms take."""
    lead = out.rank - axes
    if parameter.shape != out.shape or parameter.dtype not in (out.dtype, "float32"):
        return None
    inner = View(parameter.value, parameter.shape[lead:], parameter.strides[lead:], parameter.offset)
    broadcast = all(n <= 1 or s == 0 for n, s in zip(parameter.shape[:lead], parameter.strides[:lead], strict=True))
    return inner if broadcast and inner.is_dense else None


def _rules(kind: str, *texts: str) -> list[Rule]:
    return [Rule(Pattern(text, numbers=("eps",)), _norm(kind)) for text in texts]


RMS_NORM = _rules("rms", "rounded(x * rsqrt(mean(x * x) + eps)) * w?")

CENTRED = "(x - mean(x))"
LAYER_NORM = _rules(
    "layer",
    f"rounded(rounded({CENTRED} * rsqrt(mean({CENTRED} * {CENTRED}) + eps)) * w?) + b?",
    f"rounded(rounded({CENTRED} / sqrt(mean({CENTRED} * {CENTRED}) + eps)) * w?) + b?",
    f"rounded(rounded({CENTRED} * rsqrt(var(x) + eps)) * w?) + b?",
    f"rounded(rounded({CENTRED} / sqrt(var(x) + eps)) * w?) + b?",
)
