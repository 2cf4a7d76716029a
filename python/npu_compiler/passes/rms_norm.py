"""``x * rsqrt(mean(x * x) + eps) * weight``, written out by hand in most language models, as one norm."""

from __future__ import annotations

from ..graph import Graph, Op, Value, View, whole
from .match import first, same, step_names
from .simplify import dead_code

_SQUARE = [["in", 0], ["mul", 0, 0]]
_FLOATS = ("float32", "float16", "bfloat16")


def fuse_rms_norm(graph: Graph) -> None:
    makers = {op.out.value: op for op in graph.main if op.out.is_dense}
    readers, outputs = graph.readers(), graph.output_values()
    replaced: dict[int, Op | None] = {}
    for root in graph.main:
        found = _root(root, makers)
        if found is None:
            continue
        eps, axes, x = found
        for scaled in readers.get(root.out.value, []):
            if not _is_product(scaled, x, root.out):
                continue
            last, weight = _weighted(scaled.out.value, readers, outputs, axes) or (scaled, None)
            source = _in_dtype(x, last.out.dtype, makers)
            if source is None or (weight is not None and weight.dtype not in (last.out.dtype, "float32")):
                last, weight, source = scaled, None, _in_dtype(x, scaled.out.dtype, makers)
            if source is None:
                continue
            nodes = tuple(dict.fromkeys((*root.nodes, *scaled.nodes, *last.nodes)))
            attrs = {"kind": "rms", "axes": axes, "eps": eps}
            replaced[id(scaled)] = None
            replaced[id(last)] = Op("norm", last.name, [source, weight], [last.out], attrs, nodes, last.module)
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


def _in_dtype(x: View, dtype: str, makers: dict[Value, Op]) -> View | None:
    """x in that dtype: itself, or what it was converted from."""
    if x.dtype == dtype:
        return x
    maker = makers.get(x.value)
    if maker is None or not x.is_whole or step_names(maker) != ["in", "cast"]:
        return None
    source = first(maker)
    return source if source.dtype == dtype and source.shape == x.shape else None


def _weighted(value: Value, readers: dict[Value, list[Op]], outputs: set[Value], axes: int) -> tuple[Op, View] | None:
    """The only reader, perhaps behind conversions, where it multiplies by a weight of the normalised shape."""
    while True:
        users = readers.get(value, [])
        if len(users) != 1 or value in outputs or users[0].kind != "map":
            return None
        op = users[0]
        names = step_names(op)
        if names != ["in", "cast"] or op.out.dtype not in _FLOATS or not op.out.is_whole or not first(op).is_whole:
            break
        value = op.out.value
    if names != ["in", "in", "mul"] or len(op.inputs) != 2:
        return None
    for y, weight in (op.inputs, op.inputs[::-1]):
        if y is None or weight is None or y.value is not value or not y.is_whole:
            continue
        lead = weight.rank - axes
        inner = View(weight.value, weight.shape[lead:], weight.strides[lead:], weight.offset)
        broadcast = all(n <= 1 or s == 0 for n, s in zip(weight.shape[:lead], weight.strides[:lead], strict=True))
        if broadcast and inner.is_dense:
            return op, inner
    return None
