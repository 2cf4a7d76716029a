"""Which half-precision results are rounded when they are fused into their readers.

Expressions compute in float32, which is more exact than PyTorch's eager mode, where each result is rounded to its
dtype. The difference can exceed a rounding error where a result *decides* something: a comparison, a rounding, a
remainder, a cast to integers, the order of elements. There, and in the elementwise arithmetic that leads there, each
result is rounded as in eager mode. So is the operand of a cast to another dtype, because the cast makes it visible.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..exprs import DECIDING, class_of
from ..graph import Graph, Op, Value, View
from ..opset import OPS

_HALVES = ("float16", "bfloat16")
_BLENDS = ("avg", "linear", "cubic")
"""Kinds of pooling and resizing that compute with several elements."""
_EXTREMES = ("max", "min")
_CHOICES = ("argmax", "argmin", "any", "all")


def rounded_values(graph: Graph) -> set[Value]:
    """The half values that expressions round, as ``graph.rounding`` says."""
    if graph.rounding != "deciding":
        halves = {view.value for op in graph.ops() for view in op.writes() if view.dtype in _HALVES}
        return halves if graph.rounding == "all" else set()
    if not _has_halves(graph):
        return set()
    deciding: set[Value] = set()
    cast_values: set[Value] = set()
    for op in reversed([*graph.prepare, *graph.main]):
        matters = any(view.value in deciding for view in op.writes())
        if op.kind == "map":
            deciding.update(view.value for view in _deciding_operands(op, matters))
            cast_values.update(view.value for view in _cast_operands(op))
        else:
            deciding.update(view.value for view in _handed_on(op, matters))
    return {value for value in deciding | cast_values if value.dtype in _HALVES}


def _has_halves(graph: Graph) -> bool:
    given = (*graph.inputs, *graph.weights, *graph.constants)
    if any(value.dtype in _HALVES for value in given):
        return True
    return any(view.value.dtype in _HALVES for op in graph.ops() for view in op.writes())


def _deciding_operands(op: Op, matters: bool) -> Iterator[View]:
    """The operands that decide something, or that lead to a result that does."""
    steps = op.attrs["expr"]
    needed = [False] * len(steps)
    needed[-1] = matters
    operands = list(op.reads())
    for at in reversed(range(len(steps))):
        name, *args = steps[at]
        if name == "in" and needed[at]:
            yield operands[args[0]]
        if name in ("in", "const"):
            continue
        decides = name in DECIDING or (name == "cast" and class_of(args[1]) != "f")
        for arg in args[:1] if name == "cast" else args:
            needed[arg] = needed[arg] or needed[at] or decides


def _cast_operands(op: Op) -> Iterator[View]:
    """The operands that the expression casts to another floating-point dtype, or gives as they are."""
    operands = list(op.reads())
    steps = op.attrs["expr"]
    casts = [(steps[args[0]], args[1]) for name, *args in steps if name == "cast"]
    for source, dtype in (*casts, (steps[-1], op.out.dtype)):
        if source[0] == "in" and class_of(dtype) == "f" and operands[source[1]].dtype != dtype:
            yield operands[source[1]]


def _handed_on(op: Op, matters: bool) -> list[View]:
    kind = op.attrs.get("kind")
    ordered = len(op.outputs) > 1 and op.outputs[1] is not None  # indices
    if op.kind == "reduce":
        count = int((matters and kind in _EXTREMES) or kind in _CHOICES)
    else:
        count = OPS[op.kind].moves if (matters and kind not in _BLENDS) or ordered else 0
    return [view for view in op.inputs[:count] if view is not None]
