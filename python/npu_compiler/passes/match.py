"""Helpers that recognise small expressions in maps."""

from __future__ import annotations

from ..graph import Graph, Op, View


def step_names(op: Op) -> list[str]:
    """The names of a map's steps, without casts that only widen half operands to float32."""
    steps = op.attrs.get("expr", []) if op.kind == "map" else []
    operands = list(op.reads())
    widened = {
        at
        for at, (name, *args) in enumerate(steps[:-1])
        if name == "cast" and args[1] == "float32" and steps[args[0]][0] == "in"
        and operands[steps[args[0]][1]].dtype in ("float16", "bfloat16")
    }  # fmt: skip
    return [step[0] for at, step in enumerate(steps) if at not in widened]


def first(op: Op) -> View:
    view = op.inputs[0]
    assert view is not None
    return view


def scale_of(op: Op) -> tuple[View, float] | None:
    """``x`` and ``c`` if the op is x * c, or x and 1 / c if it is x / c, for a number c."""
    if step_names(op) not in (["in", "const", "mul"], ["in", "const", "div"], ["const", "in", "mul"]):
        return None
    number = float(next(step[1] for step in op.attrs["expr"] if step[0] == "const"))
    *_, (name, *args) = op.attrs["expr"]
    if name == "mul":
        return first(op), number
    return (first(op), 1 / number) if args == [0, 1] and number else None


def in_dtype(graph: Graph, x: View, dtype: str) -> View | None:
    """x in that dtype: x itself, or the view that it was converted from."""
    if x.dtype == dtype:
        return x
    maker = graph.dense_maker(x)
    if maker is None or not x.is_whole or step_names(maker) != ["in", "cast"]:
        return None
    source = first(maker)
    return source if source.dtype == dtype and source.shape == x.shape else None
