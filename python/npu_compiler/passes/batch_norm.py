"""Inference batch norm after a convolution becomes part of its weights."""

from __future__ import annotations

from ..exprs import Expression, Ref
from ..graph import Graph, Op, Value, View, nodes_of, whole


def fold_batch_norm(graph: Graph) -> None:
    static = _static(graph)
    for norm in graph.main:
        if "batch_norm" not in norm.hints or norm.inputs[0] is None:
            continue
        x = norm.inputs[0]
        conv = graph.maker(x)
        if conv is None or conv.kind != "conv" or not x.is_whole or graph.only_reader(x.value) is None:
            continue
        weight, bias = conv.inputs[1], conv.inputs[2] if len(conv.inputs) > 2 else None
        scale, shift = norm.hints["batch_norm"]
        if weight is None or any(v.value not in static for v in (weight, bias, scale, shift) if v is not None):
            continue
        folded, new = _fold(graph, conv.name, weight, bias, scale, shift)
        for op in new:
            graph.insert(op, before=norm)
        # At the place of the norm everything that it reads exists.
        inputs = (conv.inputs[0], *folded)
        merged = Op("conv", conv.name, inputs, (norm.out,), conv.attrs, nodes_of(conv, norm), conv.module)
        graph.merge([conv, norm], merged)


def _static(graph: Graph) -> set[Value]:
    static: set[Value] = {*graph.weights, *graph.constants}
    for op in graph.main:
        if all(v.value in static for v in op.reads()):
            static.update(v.value for v in op.writes())
    return static


def _fold(
    graph: Graph, name: str, weight: View, bias: View | None, scale: View, shift: View
) -> tuple[list[View | None], list[Op]]:
    per_row = scale
    for _ in range(weight.rank - 1):
        per_row = per_row.unsqueeze(per_row.rank)
    new_weight = graph.temp(f"{name}.weight", weight.dtype, weight.shape)
    ops = [_map(f"{name}.weight", "w * s", {"w": weight, "s": per_row}, new_weight)]
    if bias is None:
        return [whole(new_weight), shift], ops
    new_bias = graph.temp(f"{name}.bias", "float32", shift.shape)
    ops.append(_map(f"{name}.bias", "b * s + t", {"b": bias, "s": scale, "t": shift}, new_bias))
    return [whole(new_weight), whole(new_bias)], ops


def _map(name: str, text: str, operands: dict[str, View], out: Value) -> Op:
    expr = Expression()
    env = {k: Ref(expr.load(i, "f")) for i, k in enumerate(operands)}
    steps = expr.finish(expr.eval(text, env))
    views = tuple(view.expand(out.shape) for view in operands.values())
    return Op("map", f"{name}.fold", views, (whole(out),), {"expr": steps})
