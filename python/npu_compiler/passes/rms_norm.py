"""``x * rsqrt(mean(x * x) + eps) * weight``, written out by hand in most language models, as one norm."""

from __future__ import annotations

from ..graph import Graph, Op, View, same, whole
from .match import first, norm_with_parameters, step_names
from .simplify import dead_code

_SQUARE = [["in", 0], ["mul", 0, 0]]


def fuse_rms_norm(graph: Graph) -> None:
    for root in graph.main:
        found = _root(graph, root)
        if found is None:
            continue
        eps, axes, x = found
        for scaled in graph.readers(root.out.value):
            if not _is_product(scaled, x, root.out):
                continue
            norm = norm_with_parameters(scaled, "rms", x, eps, axes, ("mul",), graph)
            if norm is not None:
                graph.replace(*norm)
    dead_code(graph)


def _root(graph: Graph, op: Op) -> tuple[float, int, View] | None:
    """eps, the number of axes and x, where ``op`` is rsqrt(mean(x * x) + eps)."""
    if step_names(op) != ["in", "rsqrt"] or not op.out.is_whole or not first(op).is_whole:
        return None
    shift = graph.dense_maker(first(op))
    if shift is None or step_names(shift) != ["in", "const", "add"] or not first(shift).is_dense:
        return None
    eps = shift.attrs["expr"][1][1]
    mean = graph.dense_maker(first(shift))
    if not isinstance(eps, float) or mean is None or mean.kind != "reduce" or mean.attrs["kind"] != "mean":
        return None
    square = graph.dense_maker(first(mean))
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
