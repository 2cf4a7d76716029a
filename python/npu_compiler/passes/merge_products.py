"""Products of one matrix with several weights become one product with all of them side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..graph import Graph, Op, Value, View, nodes_of, remap, whole
from .match import first


def merge_products(graph: Graph) -> None:
    fixed = {*graph.weights, *graph.constants, *(view.value for op in graph.prepare for view in op.writes())}
    outputs = graph.output_values()
    groups: dict[Any, list[Value]] = {}
    for op in graph.main:
        key = _key(graph, op, fixed)
        if key is not None and op.out.value not in outputs:
            groups.setdefault(key, []).append(op.out.value)
    for values in groups.values():
        makers = [graph.maker(whole(value)) for value in values]
        joined = [op for op in makers if op is not None and not _has_own_epilogue(graph, op, set(values))]
        if len(joined) > 1:
            _merge(graph, joined)


def _has_own_epilogue(graph: Graph, op: Op, group: set[Value]) -> bool:
    """Whether elementwise ops follow that read only this product. They become its epilogue instead."""
    reader = graph.only_reader(op.out.value)
    alone = reader is not None and reader.kind == "map"
    while reader is not None and reader.kind == "map":
        if any(_origin(graph, view) in group - {op.out.value} for view in reader.reads()):
            return False  # a gate, or what it lets through
        reader = graph.only_reader(reader.out.value)
    return alone


def _origin(graph: Graph, view: View) -> Value:
    """Where a chain of elementwise ops of one operand begins."""
    maker = graph.maker(view)
    while maker is not None and maker.kind == "map" and len(maker.inputs) == 1:
        view = first(maker)
        maker = graph.maker(view)
    return view.value


def _key(graph: Graph, op: Op, fixed: set[Value]) -> Any:
    """What products must have in common to be merged; None if this one cannot be merged."""
    if op.kind != "matmul" or op.attrs.get("epilogue") or op.out.rank != 2:
        return None
    a, b, bias, *scales = _inputs(op)
    if a is None or b is None or b.value not in fixed or len(graph.readers(b.value)) != 1:
        return None
    if bias is not None and (bias.value not in fixed or (bias.shape[0] > 1 and bias.strides[0])):
        return None
    quantized = [None if view is None else view.dtype for view in scales]
    if not op.out.is_dense or not op.out.elements or (b.value.dtype != a.dtype and not quantized[0]):
        return None
    scheme = (*op.attrs.items(), *quantized)
    return a.value, a.shape, a.strides, a.offset, op.out.dtype, None if bias is None else bias.dtype, scheme


def _inputs(op: Op) -> tuple[View | None, ...]:
    """All that the op set names, also what is absent."""
    return (*op.inputs, *[None] * (6 - len(op.inputs)))


def _merge(graph: Graph, group: list[Op]) -> None:
    rows, dtype = group[0].out.shape[0], group[0].out.dtype
    columns = sum(op.out.shape[1] for op in group)
    name = "+".join(op.out.value.name for op in group)
    merged = whole(graph.temp(name, dtype, (rows, columns)))
    targets: dict[Value, View | None] = {}
    column = 0
    for op in group:
        part = merged.slice(1, column, op.out.shape[1])
        column += op.out.shape[1]
        targets[op.out.value] = part.reshape(op.out.value.shape)

    def moved(view: View) -> View | None:
        target = targets[view.value]
        return None if target is None else remap(view, target)

    if not graph.relocate(targets, moved, skip=group):
        return
    head, quantized = group[0], bool(group[0].attrs.get("bits"))
    weights = _stacked(graph, group, 1, f"{name}.weight") if quantized else _weights(graph, group, name)
    inputs = [head.inputs[0], weights, _bias(graph, group, name, rows)]
    if quantized:
        parts = ("scales", "offsets", "units")
        inputs += [_stacked(graph, group, at, f"{name}.{part}") for at, part in enumerate(parts, 3)]
    while inputs[-1] is None:
        inputs.pop()
    product = Op("matmul", head.name, tuple(inputs), (merged,), head.attrs, nodes_of(*group), head.module)
    graph.remove(*group[1:])
    graph.replace(head, product)


def _weights(graph: Graph, group: list[Op], name: str) -> View:
    """[K, columns], each column in one piece, as the weights of linear layers lie."""
    parts = [op.inputs[1] for op in group]
    assert parts[0] is not None
    depth, columns = parts[0].shape[0], sum(view.shape[1] for view in parts if view is not None)
    return _side_by_side(
        graph, parts, whole(graph.temp(f"{name}.weight", parts[0].dtype, (columns, depth))).transpose(0, 1)
    )


def _stacked(graph: Graph, group: list[Op], at: int, name: str) -> View | None:
    """The rows of this operand of all ops, one below the other."""
    parts = [view for op in group if (view := _inputs(op)[at]) is not None]
    if not parts:
        return None
    rows, width = sum(view.shape[0] for view in parts), parts[0].shape[1]
    joined = whole(graph.temp(name, parts[0].dtype, (rows, width))).transpose(0, 1)
    return _side_by_side(graph, [view.transpose(0, 1) for view in parts], joined).transpose(0, 1)


def _bias(graph: Graph, group: list[Op], name: str, rows: int) -> View | None:
    parts = [_inputs(op)[2] for op in group]
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
        target = joined.slice(1, column, part.shape[1])
        column += part.shape[1]
        graph.append(Op("copy", graph.unique(f"{joined.value.name}.part"), (part,), (target,)), graph.prepare)
    return joined
