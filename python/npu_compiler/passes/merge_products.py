"""Products of one matrix with several weights become one product with all of them side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..graph import Graph, Op, Value, View, remap, whole
from .match import Matcher, first


def merge_products(graph: Graph) -> None:
    fixed = {*graph.weights, *graph.constants, *(view.value for op in graph.prepare for view in op.writes())}
    match = Matcher(graph)
    groups: dict[Any, list[Op]] = {}
    for op in graph.main:
        key = _key(op, match, fixed)
        if key is not None:
            groups.setdefault(key, []).append(op)
    for group in groups.values():
        values = {op.out.value for op in group}
        joined = [op for op in group if not _has_own_epilogue(op, match, values)]
        if len(joined) > 1:
            _merge(graph, match, joined)


def _has_own_epilogue(op: Op, match: Matcher, group: set[Value]) -> bool:
    """Whether elementwise work follows that concerns this product alone: that happens where it is made."""
    reader = match.only_reader(op.out.value)
    alone = reader is not None and reader.kind == "map"
    while reader is not None and reader.kind == "map":
        if any(_origin(match, view) in group - {op.out.value} for view in reader.reads()):
            return False  # a gate, or what it lets through
        reader = match.only_reader(reader.out.value)
    return alone


def _origin(match: Matcher, view: View) -> Value:
    """Where a chain of elementwise ops of one operand begins."""
    maker = match.maker(view)
    while maker is not None and maker.kind == "map" and len(maker.inputs) == 1:
        view = first(maker)
        maker = match.maker(view)
    return view.value


def _key(op: Op, match: Matcher, fixed: set[Value]) -> Any:
    """What products must have in common; None where one stays by itself."""
    if op.kind != "matmul" or op.attrs.get("epilogue") or len(op.inputs) > 3 or op.out.rank != 2:
        return None
    a, b = op.inputs[0], op.inputs[1]
    bias = op.inputs[2] if len(op.inputs) > 2 else None
    if a is None or b is None or b.value not in fixed or len(match.readers[b.value]) != 1:
        return None
    if bias is not None and (bias.value not in fixed or (bias.shape[0] > 1 and bias.strides[0])):
        return None
    if not op.out.is_dense or op.out.value in match.outputs or not op.out.elements or b.value.dtype != a.dtype:
        return None
    return a.value, a.shape, a.strides, a.offset, op.out.dtype, None if bias is None else bias.dtype


def _merge(graph: Graph, match: Matcher, group: list[Op]) -> None:
    rows, dtype = group[0].out.shape[0], group[0].out.dtype
    columns = sum(op.out.shape[1] for op in group)
    name = "+".join(op.out.value.name for op in group)
    merged = whole(graph.temp(name, dtype, (rows, columns)))
    moves: list[tuple[Op, int, View]] = []
    column = 0
    for op in group:
        place = merged.slice(1, column, op.out.shape[1])
        column += op.out.shape[1]
        value = op.out.value
        target = place.reshape(value.shape)
        for reader in match.readers.get(value, []):
            for i, view in enumerate(reader.inputs):
                if view is None or view.value is not value:
                    continue
                moved = remap(view, target) if target is not None else None
                if moved is None:
                    return
                moves.append((reader, i, moved))
    for reader, i, view in moves:
        reader.inputs[i] = view
    nodes = tuple(dict.fromkeys(node for op in group for node in op.nodes))
    inputs = [group[0].inputs[0], _weights(graph, group, name), _bias(graph, group, name, rows)]
    made = Op("matmul", group[0].name, inputs if inputs[2] else inputs[:2], [merged], {}, nodes, group[0].module)
    gone = set(map(id, group[1:]))
    graph.main = [made if op is group[0] else op for op in graph.main if id(op) not in gone]


def _weights(graph: Graph, group: list[Op], name: str) -> View:
    """[K, columns], each column in one piece, as the weights of linear layers lie."""
    parts = [op.inputs[1] for op in group]
    assert parts[0] is not None
    depth, columns = parts[0].shape[0], sum(view.shape[1] for view in parts if view is not None)
    return _side_by_side(
        graph, parts, whole(graph.temp(f"{name}.weight", parts[0].dtype, (columns, depth))).transpose(0, 1)
    )


def _bias(graph: Graph, group: list[Op], name: str, rows: int) -> View | None:
    parts = [op.inputs[2] if len(op.inputs) > 2 else None for op in group]
    if parts[0] is None:
        return None
    flat = [view.slice(0, 0, 1) for view in parts if view is not None]
    columns = sum(view.shape[1] for view in flat)
    joined = whole(graph.temp(f"{name}.bias", flat[0].dtype, (1, columns)))
    return _side_by_side(graph, flat, joined).expand((rows, columns))


def _side_by_side(graph: Graph, parts: Iterable[View | None], joined: View) -> View:
    column = 0
    for part in parts:
        assert part is not None
        place = joined.slice(1, column, part.shape[1])
        column += part.shape[1]
        graph.prepare.append(Op("copy", graph.unique(f"{joined.value.name}.part"), [part], [place]))
    return joined
