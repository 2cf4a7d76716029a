"""``x * rsqrt(mean(x * x) + eps) * weight``, written out by hand in most language models, as one norm."""

from __future__ import annotations

from ..graph import Graph, Op, Value, View, whole
from .match import Matcher, first, norm_with_parameters, same, step_names
from .simplify import dead_code

_SQUARE = [["in", 0], ["mul", 0, 0]]


def fuse_rms_norm(graph: Graph) -> None:
    makers = {op.out.value: op for op in graph.main if op.out.is_dense}
    match = Matcher(graph)
    replaced: dict[int, Op | None] = {}
    for root in graph.main:
        found = _root(root, makers)
        if found is None:
            continue
        eps, axes, x = found
        for scaled in match.readers.get(root.out.value, []):
            if not _is_product(scaled, x, root.out):
                continue
            norm = norm_with_parameters(scaled, "rms", x, eps, axes, ("mul",), match)
            if norm is not None:
                replaced[id(scaled)] = None
                replaced[id(norm[0])] = norm[1]
    rebuilt = [replaced.get(id(op), op) for op in graph.main]
    graph.main = [op for op in rebuilt if op is not None]
    dead_code(graph)


def _root(op: Op, makers: dict[Value, Op]) -> tuple[float, int, View] | None:
    """eps, the number of axes and x, where ``op`` is rsqrt(mean(x * x) + eps)."""
    if step_names(op) != ["in", "rsqrt"] or not op.out.is_whole or not first(op).is_whole:
        return None
    shift = makers.get(first(op).value)
    if shift is None or step_names(shift) != ["in", "const", "add"] or not first(shift).is_dense:
        return None
    eps = shift.attrs["expr"][1][1]
    mean = makers.get(first(shift).value)
    if not isinstance(eps, float) or mean is None or mean.kind != "reduce" or mean.attrs["kind"] != "mean":
        return None
    square = makers.get(first(mean).value)
    if square is None or square.attrs.get("expr") != _SQUARE or not first(mean).is_whole:
        return None
    rank, axes = first(mean).rank, mean.attrs["axes"]
    x = first(square)
    if list(axes) != list(range(rank - len(axes), rank)) or x.shape != first(mean).shape:
        return None
    return eps, len(axes), x


def _is_product(op: Op, x: View, root: View) -> bool:
    """``x * root`` with the root broadcast over the axes."""
    if step_names(op) != ["in", "in", "mul"] or len(op.inputs) != 2 or op.out.shape != x.shape:
        return False
    want = whole(root.value).expand(x.shape)
    return any(op.inputs[i] == x and same(op.inputs[1 - i], want) for i in (0, 1))
