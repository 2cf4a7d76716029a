"""``softmax(q @ k^T * scale + mask) @ v``, written out, as one op that never holds the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..exprs import number as as_number
from ..graph import Graph, Op, View, nodes_of, remap, whole
from .match import first, scale_of, step_names
from .simplify import dead_code

_FLOATS = ("float32", "float16", "bfloat16")
_NEVER = -1e30
"""Whatever is added to it in float32, it stays what it is."""


@dataclass
class _Scores:
    """What is known of them on the way from the softmax up to the product."""

    scale: float = 1.0
    mask: View | None = None
    chosen: tuple[View, float, bool] | None = None
    """Instead of ``mask``: where it is true (or false), this number takes the place of the score."""
    shape: tuple[int, ...] = ()
    product: Op | None = None


def fuse_attention(graph: Graph) -> None:
    for op in graph.main:
        if op.kind == "softmax" and not op.attrs.get("log") and op.attrs["axis"] == op.out.rank - 1:
            _fuse(graph, op)
    for op in graph.main:
        if op.kind == "attention":
            _absorb_scales(graph, op)
    dead_code(graph)


def _absorb_scales(graph: Graph, op: Op) -> None:
    """Queries or keys that are multiplied by a number for this alone are not: the scores are."""
    for i in (0, 1):
        view = op.inputs[i]
        maker = graph.maker(view)
        scaled = scale_of(maker) if maker is not None else None
        if view is None or scaled is None or graph.only_reader(view.value) is not op or scaled[0].dtype != view.dtype:
            continue
        source = remap(view, scaled[0])
        if source is not None and sum(v is not None and v.value is view.value for v in op.inputs) == 1:
            inputs = [source if k == i else v for k, v in enumerate(op.inputs)]
            op = graph.change(op, inputs=inputs, attrs={**op.attrs, "scale": op.attrs["scale"] * scaled[1]})


def _fuse(graph: Graph, softmax: Op) -> None:
    weights, scores = _product_after(graph, softmax), _scores(graph, softmax)
    if weights is None or scores is None or scores.product is None:
        return
    shape = scores.shape if len(scores.shape) == 4 else softmax.out.shape
    shape = (1,) * (4 - len(shape)) + shape
    if len(shape) != 4:
        return
    views = _operands(graph, scores, weights, shape)
    if views is None:
        return
    q, k, v, out = views
    mask = _mask(graph, scores, weights, shape)
    if mask is None and scores.shape:
        return
    if {q.dtype, k.dtype, v.dtype} != {out.dtype} or (mask is not None and mask.dtype not in ("float32", q.dtype)):
        return
    nodes = nodes_of(scores.product, softmax, weights)
    attrs = {"scale": scores.scale, "causal": False, "masked_rows": "nan"}
    inputs = (q, k, v) if mask is None else (q, k, v, mask)
    made = Op("attention", weights.name, inputs, (out,), attrs, nodes, weights.module)
    _lay_heads_together(graph, graph.replace(weights, made))


def _scores(graph: Graph, softmax: Op) -> _Scores | None:
    found = _Scores()
    view = first(softmax)
    while view.is_dense and view.dtype in _FLOATS and graph.only_reader(view.value) is not None:
        op = graph.maker(view)
        if op is None or not op.out.is_dense:
            return None
        scaled = scale_of(op)
        if op.kind == "matmul":
            plain = len([v for v in op.inputs if v is not None]) == 2 and not op.attrs.get("epilogue")
            found.product = op if plain else None
            return found
        if step_names(op) == ["in", "cast"]:
            view = first(op)
        elif scaled is not None:
            view, found.scale = scaled[0], found.scale * scaled[1]
        elif found.shape or found.scale != 1.0:
            return None
        else:
            source = _under_mask(graph, op, found)
            if source is None:
                return None
            view, found.shape = source, op.out.shape
    return None


def _under_mask(graph: Graph, op: Op, found: _Scores) -> View | None:
    """The scores that the op masks, where it does; ``found`` is told how."""
    if step_names(op) == ["in", "in", "add"]:
        pair = _scores_and_mask(graph, op)
        if pair is not None:
            found.mask = pair[1]
        return pair[0] if pair is not None else None
    return _chosen(graph, op, found)


def _chosen(graph: Graph, op: Op, found: _Scores) -> View | None:
    """The scores, where a number takes the place of some of them."""
    steps = op.attrs.get("expr", [])
    if op.kind != "map" or not steps or steps[-1][0] != "where" or any(s[0] not in ("in", "const") for s in steps[:-1]):
        return None
    condition, *choices = (steps[at] for at in steps[-1][1:])
    chooser = op.inputs[condition[1]] if condition[0] == "in" else None
    numbers = [_number(graph, op, step) for step in choices]
    if chooser is None or chooser.dtype != "bool" or sum(n is not None for n in numbers) != 1:
        return None
    when = numbers[0] is not None
    number, kept = (numbers[0], choices[1]) if when else (numbers[1], choices[0])
    x = op.inputs[kept[1]] if kept[0] == "in" else None
    if number is None or number > _NEVER or x is None or not x.is_dense:
        return None
    found.chosen = (chooser, number, when)
    return x


def _number(graph: Graph, op: Op, step: Any) -> float | None:
    if step[0] == "const":
        return float(step[1])
    view = op.inputs[step[1]]
    makers = graph.writers(view.value) if view is not None else []
    steps = makers[0].attrs.get("expr", []) if len(makers) == 1 and makers[0].kind == "map" else []
    return float(steps[0][1]) if len(steps) == 1 and steps[0][0] == "const" else None


def _mask(graph: Graph, scores: _Scores, at: Op, shape: tuple[int, ...]) -> View | None:
    """The mask in rank 4; a choice between score and number becomes an addend, made once for each broadcast row."""
    if scores.mask is not None:
        return scores.mask.reshape(shape) if scores.mask.shape != shape else scores.mask
    if scores.chosen is None:
        return None
    chooser, number, when = scores.chosen
    small = chooser
    for d, stride in enumerate(chooser.strides):
        if stride == 0 and chooser.shape[d]:
            small = small.slice(d, 0, 1)
    expr = [
        ["in", 0],
        ["const", as_number(number), "f"],
        ["const", 0.0, "f"],
        ["where", 0, 1, 2] if when else ["where", 0, 2, 1],
    ]
    made = whole(graph.temp(f"{at.out.value.name}.mask", "float32", small.shape))
    graph.insert(Op("map", graph.unique(made.value.name), (small,), (made,), {"expr": expr}), before=at)
    return made.expand(chooser.shape).reshape(shape)


def _scores_and_mask(graph: Graph, op: Op) -> tuple[View, View] | None:
    """Of the two operands, the one that a product made for this alone."""
    for x, mask in (op.inputs[:2], op.inputs[1::-1]):
        if x is None or mask is None or not x.is_dense or graph.only_reader(x.value) is not op:
            continue
        maker = graph.maker(x)
        while maker is not None and maker.kind == "map" and len(maker.inputs) == 1:
            maker = graph.maker(first(maker))
        if maker is not None and maker.kind == "matmul":
            return x, mask
    return None


def _product_after(graph: Graph, softmax: Op) -> Op | None:
    """The product with the values, which alone reads the weights, perhaps in another dtype."""
    value = softmax.out.value
    while softmax.out.is_dense:
        op = graph.only_reader(value)
        if op is None or not first(op).is_dense or first(op).value is not value or not op.out.is_dense:
            return None
        if op.kind == "matmul":
            plain = len([v for v in op.inputs if v is not None]) == 2 and not op.attrs.get("epilogue")
            return op if plain and op.inputs[1] is not None and op.inputs[1].value is not value else None
        if step_names(op) != ["in", "cast"] or op.out.dtype not in _FLOATS:
            return None
        value = op.out.value
    return None


def _operands(
    graph: Graph, scores: _Scores, weights: Op, shape: tuple[int, ...]
) -> tuple[View, View, View, View] | None:
    """q, k, v and the result in rank 4."""
    assert scores.product is not None
    q, right = scores.product.inputs[0], scores.product.inputs[1]
    v = weights.inputs[1]
    assert q is not None
    assert right is not None
    assert v is not None
    n, heads, rows, columns = shape
    q4 = q.reshape((n, heads, rows, q.shape[-1]))
    k = right.transpose(right.rank - 2, right.rank - 1)
    shapes = (n, heads, columns, k.shape[-1]), (n, heads, columns, v.shape[-1])
    k4, v4 = _shared(graph, k, shapes[0]), _shared(graph, v, shapes[1])
    if k4 is None or v4 is None or k4.shape[1] != v4.shape[1]:  # both share their heads alike, or neither does
        k4, v4 = k.reshape(shapes[0]), v.reshape(shapes[1])
    out = weights.out.reshape((n, heads, rows, v.shape[-1]))
    if q4 is None or k4 is None or v4 is None or out is None:
        return None
    return q4, k4, v4, out


def _shared(graph: Graph, x: View, shape: tuple[int, ...]) -> View | None:
    """In rank 4, the source of a copy that only repeats heads; None where it is no such copy."""
    n, heads, rows, width = shape
    maker = graph.maker(x)
    source = maker.inputs[0] if maker is not None and maker.kind == "copy" and maker.out.is_whole else None
    if source is None or source.rank != 5 or source.strides[2] != 0 or source.shape[2] < 2:
        return None
    groups = source.shape[1]
    split = x.reshape((n, groups, heads // groups, rows, width)) if groups and heads % groups == 0 else None
    found = remap(split, source) if split is not None else None
    return found.slice(2, 0, 1).drop(2) if found is not None and found.strides[2] == 0 else None


def _lay_heads_together(graph: Graph, op: Op) -> None:
    """The result as [N, S, H, D] in memory, where every reader can read that by strides."""
    value, (n, heads, rows, width) = op.out.value, op.out.shape
    if graph.is_output(value) or not op.out.elements:
        return
    made = graph.temp(value.name, value.dtype, (n, rows, heads, width))
    target = whole(made).permute((0, 2, 1, 3))
    if graph.relocate([value], lambda view: remap(view, target), skip=[op]):
        graph.change(op, outputs=[target])
