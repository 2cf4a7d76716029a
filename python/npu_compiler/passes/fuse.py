"""Chains of elementwise ops become one op."""

from __future__ import annotations

from ..exprs import Expression, Step, class_of
from ..graph import Graph, Op, Value, View, nodes_of, remap
from ..oplist import OpList
from .rounding import rounded_values

MAX_OPERANDS = 12
MAX_STEPS = 96
_CHEAP = frozenset("in const cast add sub mul neg relu abs max min not lnot inot".split())


def fuse_maps(graph: Graph) -> None:
    """Fuses a map into its only reader, if that is a map too. Constants are fused into all their readers."""
    _fuse(graph, graph.prepare)
    _fuse(graph, graph.main)


def fuse_casts(graph: Graph) -> None:
    """Fuses conversions into every map that reads them."""
    _fuse(graph, graph.main, duplicate=True)


def _fuse(graph: Graph, ops: OpList[Op], duplicate: bool = False) -> None:
    outputs = graph.output_values()
    rounded = rounded_values(graph)
    for op in ops:
        fused: Op | None = op if op.kind == "map" else None
        while fused is not None:
            fused = _fused(graph, ops, fused, outputs, rounded, duplicate)


def _fused(
    graph: Graph, ops: OpList[Op], op: Op, outputs: set[Value], rounded: set[Value], duplicate: bool
) -> Op | None:
    """The op with one of the maps that it reads fused into it."""
    for value in dict.fromkeys(v.value for v in op.reads()):
        makers = graph.writers(value)
        if len(makers) != 1 or makers[0].kind != "map" or not makers[0].out.is_whole:
            continue
        (maker,) = makers
        alone = len(graph.readers(value)) == 1 and value not in outputs
        local = graph.is_in(maker, ops)
        if not _allowed(maker, alone, duplicate, local):
            continue
        merged = merge(maker, op, value in rounded)
        if merged is None:
            continue
        fused = graph.change(op, inputs=merged[0], attrs={"expr": merged[1]}, nodes=nodes_of(maker, op), hints={})
        if local and alone:
            graph.remove(maker)
        return fused
    return None


def _allowed(maker: Op, alone: bool, duplicate: bool, local: bool) -> bool:
    if not maker.inputs:
        return True
    if not local:
        return False
    return alone or (duplicate and all(step[0] in ("in", "cast") for step in maker.attrs["expr"]))


def merge(maker: Op, op: Op, rounded: bool) -> tuple[list[View], list[Step]] | None:
    """The operands and the expression of ``op`` with ``maker`` fused into it. ``rounded`` says whether the result of
    ``maker`` is rounded to its half dtype."""
    value = maker.out.value
    cheap = all(step[0] in _CHEAP for step in maker.attrs["expr"])
    expr = Expression()
    operands: list[View] = []

    def load(view: View) -> int:
        if view not in operands:
            operands.append(view)
        return expr.load(operands.index(view), class_of(view.dtype))

    loads: dict[int, int] = {}
    for k, view in enumerate(op.reads()):
        if view.value is not value:
            loads[k] = load(view)
            continue
        if not cheap and _repeats(view):
            return None
        inner = [remap(view, source) for source in maker.reads()]
        if any(v is None for v in inner):
            return None
        step = expr.inline(maker.attrs["expr"], {i: load(v) for i, v in enumerate(inner) if v is not None})
        # In memory, narrow integers wrap.
        narrow = class_of(value.dtype) == "i" and value.dtype != "int64"
        loads[k] = expr.cast(step, value.dtype) if narrow or rounded else step
    steps = expr.finish(expr.inline(op.attrs["expr"], loads))
    used = sorted({step[1] for step in steps if step[0] == "in"})
    if len(used) > MAX_OPERANDS or len(steps) > MAX_STEPS:
        return None
    renumbered = {k: i for i, k in enumerate(used)}
    return [operands[k] for k in used], [["in", renumbered[s[1]]] if s[0] == "in" else s for s in steps]


def _repeats(view: View) -> bool:
    return any(s == 0 and n > 1 for n, s in zip(view.shape, view.strides, strict=True))
