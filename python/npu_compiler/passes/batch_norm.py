"""Folds batch norm in inference, or any scale and shift per channel, into the weights of the convolution before it."""

from __future__ import annotations

from functools import lru_cache

from ..exprs import Expression, Ref, Step
from ..graph import Graph, Op, Value, View, nodes_of, whole
from ..patterns import Match, Pattern, Rule, rewrite
from .simplify import dead_code

BATCH_NORM = Pattern("alone(conv(x, weight, bias?)) * scale + shift")


def fold_batch_norm(graph: Graph) -> None:
    static = fixed_values(graph)

    def fold(m: Match) -> Op | None:
        conv, out = m.op("conv"), m.root.out
        weight, bias, scale, shift = m["weight"], m.get("bias"), per_channel(m["scale"]), per_channel(m["shift"])
        if scale is None or shift is None or out.shape != conv.out.shape or not out.is_whole:
            return None
        if any(view.value not in static for view in (weight, bias, scale, shift) if view is not None):
            return None
        folded, new = _fold(graph, conv.name, weight, bias, scale, shift)
        for op in new:
            graph.insert(op, before=m.root)
        inputs = (conv.inputs[0], *folded)
        return Op("conv", conv.name, inputs, (out,), conv.attrs, nodes_of(conv, m.root), conv.module)

    rewrite(graph, [Rule(BATCH_NORM, fold)])
    dead_code(graph)


def per_channel(view: View) -> View | None:
    """The vector of one float32 per channel; None for any other view."""
    same_elsewhere = all(
        n <= 1 or s == 0 for d, (n, s) in enumerate(zip(view.shape, view.strides, strict=True)) if d != 1
    )
    if view.dtype != "float32" or view.rank < 2 or not same_elsewhere:
        return None
    return View(view.value, (view.shape[1],), (view.strides[1],), view.offset)


def fixed_values(graph: Graph) -> set[Value]:
    """Weights, constants, and what is computed from these alone."""
    fixed: set[Value] = {*graph.weights, *graph.constants}
    for op in graph.main:
        if all(v.value in fixed for v in op.reads()):
            fixed.update(v.value for v in op.writes())
    return fixed


def _fold(
    graph: Graph, name: str, weight: View, bias: View | None, scale: View, shift: View
) -> tuple[list[View | None], list[Op]]:
    per_row = scale
    for _ in range(weight.rank - 1):
        per_row = per_row.unsqueeze(per_row.rank)
    new_weight = graph.temp(f"{name}.weight", weight.dtype, weight.shape)
    ops = [map_of(f"{name}.weight", "w * s", {"w": weight, "s": per_row}, new_weight)]
    if bias is None:
        return [whole(new_weight), shift], ops
    new_bias = graph.temp(f"{name}.bias", "float32", shift.shape)
    ops.append(map_of(f"{name}.bias", "b * s + t", {"b": bias, "s": scale, "t": shift}, new_bias))
    return [whole(new_weight), whole(new_bias)], ops


def map_of(name: str, text: str, operands: dict[str, View], out: Value) -> Op:
    """The map ``text`` of named operands, which are broadcast to ``out``."""
    steps = [[*step] for step in _steps(text, tuple(operands))]
    views = tuple(view.expand(out.shape) for view in operands.values())
    return Op("map", f"{name}.fold", views, (whole(out),), {"expr": steps})


@lru_cache(maxsize=64)
def _steps(text: str, names: tuple[str, ...]) -> list[Step]:
    expr = Expression()
    return expr.finish(expr.eval(text, {name: Ref(expr.load(i, "f")) for i, name in enumerate(names)}))
