"""``(x - mean(x)) / sqrt(var(x) + eps) * weight + bias``, written out by hand, as one norm."""

from __future__ import annotations

from ..graph import Graph, Op, Value, View, dense_strides, same
from .match import first, norm_with_parameters, step_names
from .simplify import dead_code

_SQUARE = [["in", 0], ["mul", 0, 0]]


def fuse_layer_norm(graph: Graph) -> None:
    for op in graph.main:
        found = _normalised(op, graph)
        norm = norm_with_parameters(op, "layer", found[2], *found[:2], ("mul", "add"), graph) if found else None
        if norm is not None:
            graph.replace(*norm)
    dead_code(graph)


def _normalised(op: Op, graph: Graph) -> tuple[float, int, View] | None:
    """eps, the number of axes and x, where ``op`` is x without its mean, over its deviation."""
    names = step_names(op)
    if names not in (["in", "in", "mul"], ["in", "in", "div"]) or len(op.inputs) != 2 or not op.out.is_whole:
        return None
    over = names[-1] == "div"
    if over and op.attrs["expr"][2] != ["div", 0, 1]:
        return None
    for centred, root in (op.inputs,) if over else (op.inputs, op.inputs[::-1]):
        x = _centred(centred, graph)
        found = _root(root, "sqrt" if over else "rsqrt", graph)
        if x is None or found is None or centred is None or x[0].shape != op.out.shape:
            continue
        source, axes = x
        eps, variance = found
        if _is_variance(variance, source, centred, axes, graph) and _spreads(root, variance.value, source, axes):
            return eps, axes, source
    return None


def _centred(view: View | None, graph: Graph) -> tuple[View, int] | None:
    """x and the number of axes, where the view is x - mean(x)."""
    op = graph.dense_maker(view)
    if op is None or view is None or not view.is_whole or step_names(op) != ["in", "in", "sub"]:
        return None
    if len(op.inputs) != 2 or op.attrs["expr"][2] != ["sub", 0, 1]:
        return None
    x, mean = op.inputs
    reduced = graph.dense_maker(mean)
    if x is None or mean is None or reduced is None or x.shape != op.out.shape:
        return None
    axes = _trailing(reduced, "mean")
    if axes is None or not same(first(reduced), x) or not _spreads(mean, mean.value, x, axes):
        return None
    return x, axes


def _root(view: View | None, name: str, graph: Graph) -> tuple[float, View] | None:
    """eps and v, where the view is of sqrt(v + eps), or of one over that."""
    root = graph.dense_maker(view)
    if root is None or step_names(root) != ["in", name] or not first(root).is_dense:
        return None
    shift = graph.dense_maker(first(root))
    if shift is None or step_names(shift) != ["in", "const", "add"] or not first(shift).is_dense:
        return None
    eps = shift.attrs["expr"][1][1]
    return (eps, first(shift)) if isinstance(eps, float) else None


def _is_variance(view: View, x: View, centred: View, axes: int, graph: Graph) -> bool:
    """Of x itself, or as the mean of what is centred, squared."""
    op = graph.dense_maker(view)
    if op is None:
        return False
    if _trailing(op, "var") == axes:
        return not op.attrs["correction"] and same(first(op), x)
    square = graph.dense_maker(first(op)) if _trailing(op, "mean") == axes else None
    return square is not None and square.attrs.get("expr") == _SQUARE and same(first(square), centred)


def _trailing(op: Op, kind: str) -> int | None:
    """How many axes it reduces, if these are the last ones, of a value in its own order."""
    if op.kind != "reduce" or op.attrs["kind"] != kind or not op.out.is_dense:
        return None
    rank, axes = first(op).rank, list(op.attrs["axes"])
    return len(axes) if axes and axes == list(range(rank - len(axes), rank)) else None


def _spreads(view: View | None, value: Value, x: View, axes: int) -> bool:
    """Whether one number for each row of x is given to all of the row."""
    lead = x.rank - axes
    spread = View(value, x.shape, (*dense_strides(x.shape[:lead]), *(0 for _ in range(axes))))
    return view is not None and same(View(value, view.shape, view.strides, view.offset), spread)
