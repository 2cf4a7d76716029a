"""What patterns ask of ops: which small expression a map is, and what it combines."""

from __future__ import annotations

from ..graph import Graph, Op, Value, View, nodes_of

_FLOATS = ("float32", "float16", "bfloat16")


def step_names(op: Op) -> list[str]:
    """Without the casts that only say that a half operand meets a float32."""
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
    """``x`` and ``c``, where the op is x * c or x / c for a number c."""
    if step_names(op) not in (["in", "const", "mul"], ["in", "const", "div"], ["const", "in", "mul"]):
        return None
    number = float(next(step[1] for step in op.attrs["expr"] if step[0] == "const"))
    *_, (name, *args) = op.attrs["expr"]
    if name == "mul":
        return first(op), number
    return (first(op), 1 / number) if args == [0, 1] and number else None


def in_dtype(x: View, dtype: str, graph: Graph) -> View | None:
    """x in that dtype: itself, or what it was converted from."""
    if x.dtype == dtype:
        return x
    maker = graph.dense_maker(x)
    if maker is None or not x.is_whole or step_names(maker) != ["in", "cast"]:
        return None
    source = first(maker)
    return source if source.dtype == dtype and source.shape == x.shape else None


def combined(graph: Graph, name: str, value: Value, axes: int) -> tuple[Op, View] | None:
    """The only reader, perhaps behind conversions, where it multiplies by (or adds) a tensor that has the last axes
    alone; and that tensor."""
    while True:
        op = graph.only_reader(value)
        if op is None or op.kind != "map":
            return None
        names = step_names(op)
        if names != ["in", "cast"] or op.out.dtype not in _FLOATS or not op.out.is_whole or not first(op).is_whole:
            break
        value = op.out.value
    if names != ["in", "in", name] or len(op.inputs) != 2:
        return None
    for y, other in (op.inputs, op.inputs[::-1]):
        if y is None or other is None or y.value is not value or not y.is_whole:
            continue
        lead = other.rank - axes
        inner = View(other.value, other.shape[lead:], other.strides[lead:], other.offset)
        broadcast = all(n <= 1 or s == 0 for n, s in zip(other.shape[:lead], other.strides[:lead], strict=True))
        if broadcast and inner.is_dense:
            return op, inner
    return None


def norm_with_parameters(
    op: Op, kind: str, x: View, eps: float, axes: int, names: tuple[str, ...], graph: Graph
) -> tuple[Op, Op] | None:
    """The norm of x that ``op`` computes, with what its readers multiply by and add (``names``), if dtypes allow; and
    the last of the ops that it replaces."""
    last, replaced, parameters = op, [op], []
    for name in names:
        found = combined(graph, name, last.out.value, axes)
        last, parameter = found or (last, None)
        replaced.append(last)
        parameters.append(parameter)
    source = in_dtype(x, last.out.dtype, graph)
    if source is None or any(p is not None and p.dtype not in (last.out.dtype, "float32") for p in parameters):
        last, replaced, parameters = op, [op], [None for _ in names]
        source = in_dtype(x, op.out.dtype, graph)
    if source is None:
        return None
    attrs = {"kind": kind, "axes": axes, "eps": eps}
    return last, Op("norm", last.name, (source, *parameters), (last.out,), attrs, nodes_of(*replaced), last.module)
