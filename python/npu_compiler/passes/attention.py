"""Fuses ``softmax(q @ k^T * scale + mask) @ v`` into one op that never stores the scores."""

from __future__ import annotations

from ..exprs import number as as_number
from ..graph import Graph, Op, View, remap, whole
from ..patterns import Match, Pattern, Rule, rewrite
from .int8_rows import read_int8_rows
from .match import scale_of
from .simplify import dead_code

_NEVER = -1e30
"""Adding a score to it does not change it in float32."""


def fuse_attention(graph: Graph) -> None:
    for op in rewrite(graph, ATTENTION):
        _lay_heads_together(graph, op)
    dead_code(graph)  # copies that are not needed any more would count as readers of queries and keys
    for op in graph.main:
        if op.kind == "attention":
            read_int8_rows(graph, _absorb_scales(graph, op))
    dead_code(graph)


def _absorb_scales(graph: Graph, op: Op) -> Op:
    """If queries or keys are multiplied by a number only for this op, its scale takes over."""
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
    return op


def _attention(m: Match) -> Op | None:
    softmax, weights = m.op("softmax"), m.root
    if softmax.attrs.get("log") or softmax.attrs["axis"] != softmax.out.rank - 1 or m["v"].value is softmax.out.value:
        return None
    masked = m.get("mask") or m.get("chosen")
    shape = masked.shape if masked is not None and masked.rank == 4 else softmax.out.shape
    shape = (1,) * (4 - len(shape)) + shape
    views = _operands(m, shape) if len(shape) == 4 else None
    if views is None:
        return None
    q, k, v, out = views
    mask = _mask(m, shape)
    if (mask is None and masked is not None) or {q.dtype, k.dtype, v.dtype} != {out.dtype}:
        return None
    if mask is not None and mask.dtype not in ("float32", q.dtype):
        return None
    scale = m.numbers.get("scale", 1.0) * m.numbers.get("more", 1.0)
    attrs = {"scale": scale, "causal": False, "masked_rows": "nan"}
    inputs = (q, k, v) if mask is None else (q, k, v, mask)
    return Op("attention", weights.name, inputs, (out,), attrs, m.nodes, weights.module)


def _mask(m: Match, shape: tuple[int, ...]) -> View | None:
    """The mask in rank 4. A choice between score and number becomes an addend, computed once per broadcast row."""
    chooser, mask = m.get("chosen"), m.get("mask")
    if mask is not None:
        return mask.reshape(shape)
    hidden = next((name for name in ("when", "unless") if name in m.numbers), None)
    if chooser is None or hidden is None or chooser.dtype != "bool" or m.numbers[hidden] > _NEVER:
        return None
    small = chooser
    for d, stride in enumerate(chooser.strides):
        if stride == 0 and chooser.shape[d]:
            small = small.slice(d, 0, 1)
    choice = ["where", 0, 1, 2] if hidden == "when" else ["where", 0, 2, 1]
    expr = [["in", 0], ["const", as_number(m.numbers[hidden]), "f"], ["const", 0.0, "f"], choice]
    addend = whole(m.graph.temp(f"{m.root.out.value.name}.mask", "float32", small.shape))
    m.graph.insert(Op("map", m.graph.unique(addend.value.name), (small,), (addend,), {"expr": expr}), before=m.root)
    return addend.expand(chooser.shape).reshape(shape)


def _operands(m: Match, shape: tuple[int, ...]) -> tuple[View, View, View, View] | None:
    """q, k, v and the result, in rank 4."""
    n, heads, rows, columns = shape
    q, right, v = m["q"], m["k"], m["v"]
    q4 = q.reshape((n, heads, rows, q.shape[-1]))
    k = right.transpose(right.rank - 2, right.rank - 1)
    shapes = (n, heads, columns, k.shape[-1]), (n, heads, columns, v.shape[-1])
    k4, v4 = _shared(m.graph, k, shapes[0]), _shared(m.graph, v, shapes[1])
    if k4 is None or v4 is None or k4.shape[1] != v4.shape[1]:  # both share their heads alike, or neither does
        k4, v4 = k.reshape(shapes[0]), v.reshape(shapes[1])
    out = m.root.out.reshape((n, heads, rows, v.shape[-1]))
    if q4 is None or k4 is None or v4 is None or out is None:
        return None
    return q4, k4, v4, out


def _shared(graph: Graph, x: View, shape: tuple[int, ...]) -> View | None:
    """In rank 4, the source of a copy that only repeats heads; None for any other."""
    n, heads, rows, width = shape
    maker = graph.maker(x)
    source = maker.inputs[0] if maker is not None and maker.kind == "copy" and maker.out.is_whole else None
    if source is None or source.rank != 5 or source.strides[2] != 0 or source.shape[2] < 2:
        return None
    groups = source.shape[1]
    split = x.reshape((n, groups, heads // groups, rows, width)) if groups and heads % groups == 0 else None
    grouped = remap(split, source) if split is not None else None
    return grouped.slice(2, 0, 1).drop(2) if grouped is not None and grouped.strides[2] == 0 else None


def _lay_heads_together(graph: Graph, op: Op) -> None:
    """Stores the result as [N, S, H, D], if every reader can read that by strides."""
    value, (n, heads, rows, width) = op.out.value, op.out.shape
    if graph.is_output(value) or not op.out.elements:
        return
    joined = graph.temp(value.name, value.dtype, (n, rows, heads, width))
    target = whole(joined).permute((0, 2, 1, 3))
    if graph.relocate([value], lambda view: remap(view, target), skip=[op]):
        graph.change(op, outputs=[target])


SCORES = "alone(rounded(alone(rounded(matmul(q, k))) * scale? * more?))"
ATTENTION = [
    Rule(Pattern(f"matmul(alone(rounded(softmax({scores}))), v)", ("scale", "more", "when", "unless")), _attention)
    for scores in (
        f"alone(rounded({SCORES} + mask?))",
        f"alone(rounded(when if chosen else {SCORES}))",
        f"alone(rounded({SCORES} if chosen else unless))",
    )
]
