"""Inference batch norm after a convolution becomes part of its weights."""

from __future__ import annotations

from ..exprs import Expression
from ..graph import Graph, Op, Value, View, whole


def fold_batch_norm(graph: Graph) -> None:
    readers, outputs = graph.readers(), graph.output_values()
    makers = {view.value: op for op in graph.main for view in op.writes()}
    static = _static(graph)
    place = {id(op): i for i, op in enumerate(graph.main)}
    inserted: dict[int, list[Op]] = {}
    gone: set[int] = set()
    for norm in graph.main:
        if "batch_norm" not in norm.hints or norm.inputs[0] is None:
            continue
        x = norm.inputs[0]
        conv = makers.get(x.value)
        if conv is None or conv.kind != "conv" or not x.is_whole or x.value in outputs or len(readers[x.value]) != 1:
            continue
        weight, bias = conv.inputs[1], conv.inputs[2] if len(conv.inputs) > 2 else None
        scale, shift = norm.hints["batch_norm"]
        if weight is None or any(v.value not in static for v in (weight, bias, scale, shift) if v is not None):
            continue
        folded, new = _fold(graph, conv.name, weight, bias, scale, shift)
        # At the place of the norm everything that it reads exists.
        merged = Op(
            "conv", conv.name, [conv.inputs[0], *folded], [norm.out], conv.attrs, conv.nodes + norm.nodes, conv.module
        )
        inserted[place[id(norm)]] = [*new, merged]
        gone.add(place[id(conv)])
    rebuilt: list[Op] = []
    for i, op in enumerate(graph.main):
        if i not in gone:
            rebuilt += inserted.get(i, [op])
    graph.main = rebuilt


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
    from ..exprs import Ref

    expr = Expression()
    env = {k: Ref(expr.load(i, "f")) for i, k in enumerate(operands)}
    steps = expr.finish(expr.eval(text, env))
    return Op("map", f"{name}.fold", [v.expand(out.shape) for v in operands.values()], [whole(out)], {"expr": steps})
