"""Rotary embeddings as language models write them out, and the cache writes that follow."""

from __future__ import annotations

from dataclasses import replace as copy_with

from ..graph import Graph, Op, View, nodes_of, same
from ..patterns import Match, Pattern, Rule, rewrite
from .match import first, step_names
from .simplify import dead_code

_FLOATS = ("float32", "float16", "bfloat16")


ROTATION = Pattern("x * cos + turned * sin")


def fuse_rope(graph: Graph) -> None:
    ropes = rewrite(graph, [Rule(ROTATION, _rope)])
    for rope in reversed(ropes):
        _join_parts(graph, rope)
    if ropes:
        _join_keys(graph)
        dead_code(graph)


def _rope(m: Match) -> Op | None:
    graph, op, x, cos, sin = m.graph, m.root, m["x"], m["cos"], m["sin"]
    out, order = op.out, (0, 1, 2, 3)
    if out.rank != 4 or out.dtype not in _FLOATS or not out.is_whole or x.dtype != out.dtype or x.shape != out.shape:
        return None
    interleaved = _quarter_turn(graph, x, m["turned"]) if cos.shape == sin.shape == out.shape else None
    if interleaved is None:
        return None
    if x.shape[2] > 1 and cos.strides[2] == 0 and (x.shape[1] == 1 or cos.strides[1] != 0):
        order = (0, 2, 1, 3)  # positions come before heads
    x, cos, sin, out = (view.permute(order) for view in (x, cos, sin, out))
    tables = []
    for table in (cos, sin):
        if table.shape[1] > 1 and table.strides[1] != 0:
            return None
        small = _before_rounding(graph, table.slice(1, 0, 1))
        if small.dtype not in ("float32", x.dtype):
            return None
        tables.append(small)
    attrs = {"interleaved": interleaved}
    return Op("rope", op.name, (x, *tables), (out,), attrs, m.nodes, op.module, hints={"order": order})


def _before_rounding(graph: Graph, table: View) -> View:
    """The table before its values were rounded, if it was."""
    maker = graph.maker(table)
    if maker is None or step_names(maker) != ["in", "cast"] or not maker.out.is_whole:
        return table
    source = first(maker)
    if source.dtype != "float32" or not source.is_dense:
        return table
    return View(source.value, table.shape, table.strides, table.offset)


def _quarter_turn(graph: Graph, x: View, other: View) -> bool | None:
    """Whether ``other`` holds the pairs (a, b) of ``x`` as (-b, a): in halves (False) or side by side (True)."""
    parts = graph.writers(other.value)
    n = x.shape[-1]
    if len(parts) != 2 or n % 2 or other.shape != x.shape or not other.is_dense:
        return None
    last, half = x.rank - 1, n // 2
    sources = [_signed_source(graph, part) for part in parts]
    for interleaved in (False, True):
        step, gap = (2, 1) if interleaved else (1, half)
        targets = [other.slice(last, 0, half, step), other.slice(last, gap, half, step)]
        wanted = [(x.slice(last, gap, half, step), True), (x.slice(last, 0, half, step), False)]
        for order in ((0, 1), (1, 0)):
            if all(_is_part(parts[order[i]], sources[order[i]], targets[i], wanted[i]) for i in (0, 1)):
                return interleaved
    return None


def _is_part(part: Op, source: tuple[View, bool] | None, target: View, wanted: tuple[View, bool]) -> bool:
    if source is None or source[1] != wanted[1]:
        return False
    out, view = part.out.reshape(target.shape), source[0].reshape(target.shape)
    return out is not None and view is not None and same(out, target) and same(view, wanted[0])


def _signed_source(graph: Graph, part: Op) -> tuple[View, bool] | None:
    """The view that a part is a copy of, and whether the copy is negated."""
    view, negated = part.inputs[0] if part.inputs else None, False
    if view is None or part.kind not in ("copy", "map"):
        return None
    if part.kind == "map":
        return (view, True) if step_names(part) == ["in", "neg"] else None
    maker = graph.maker(view)
    if maker is not None and step_names(maker) == ["in", "neg"] and view.is_dense and maker.out.is_dense:
        view, negated = first(maker), True
    return view, negated


def _join_parts(graph: Graph, op: Op) -> None:
    """If only the first elements of each row are rotated and the rest is copied, the op does both."""
    row = _whole_row(graph, op)
    if row is not None:
        x, out, copies = row
        graph.merge([op, *copies], copy_with(op, inputs=(x, *op.inputs[1:]), outputs=(out,)))


def _whole_row(graph: Graph, op: Op) -> tuple[View, View, list[Op]] | None:
    x, out = op.inputs[0], op.out
    assert x is not None
    copy = graph.only_reader(out.value)
    if copy is None or copy.kind != "copy" or not out.value.shape or copy.out.rank != 4:
        return None
    if not same(first(copy), View(out.value, copy.out.shape, first(copy).strides)) or not first(copy).is_dense:
        return None
    order = op.hints["order"]  # of the op's dimensions in the copies
    target = copy.out.value
    parts = graph.writers(target)
    rest = next((p for p in parts if p is not copy), None)
    if len(parts) != 2 or rest is None or rest.kind != "copy":
        return None
    passed, n = first(rest), copy.out.shape[3]
    if passed.rank != 4 or passed.shape[:3] != copy.out.shape[:3] or n + passed.shape[3] != target.shape[-1]:
        return None
    row = x.permute(order)
    beside = View(row.value, passed.shape, row.strides, row.offset + n * row.strides[3])
    if row.shape != copy.out.shape or not same(passed, beside):
        return None
    shape = (*row.shape[:3], target.shape[-1])
    full = View(target, shape, copy.out.strides, copy.out.offset)
    if not full.is_dense or not same(rest.out, full.slice(3, n, passed.shape[3])):
        return None
    full_row = View(row.value, shape, row.strides, row.offset)
    return full_row.permute(order), full.permute(order), [copy, rest]


def _join_keys(graph: Graph) -> None:
    """One op rotates the queries and keys of an attention, and writes both caches."""
    for attention in graph.main:
        rope = graph.maker(attention.inputs[0]) if attention.kind == "attention" else None
        if rope is None or rope.kind != "rope" or len(rope.inputs) != 3:
            continue
        written = _keys(graph, rope, attention.inputs[1])
        if written is None:
            continue
        keys, write = written
        values = _values(graph, write, attention.inputs[2]) if write is not None else None
        _join(graph, [op for op in (rope, keys, write, values) if op is not None])


def _keys(graph: Graph, rope: Op, k: View | None) -> tuple[Op, Op | None] | None:
    """The rotation of the keys, and the op that writes them into a cache."""
    maker, write = graph.maker(k), None
    if maker is not None and maker.kind == "scatter":
        write, maker = maker, graph.maker(maker.inputs[1])
        if write.out.dtype == "int8":
            write, maker = None, _before_quantizing(graph, maker)
        elif not _writes_all(graph, write, maker):
            return None
    if maker is None or maker.kind != "rope" or maker is rope or len(maker.inputs) != 3:
        return None
    alike = all(same(a, b) for a, b in zip(maker.inputs[1:], rope.inputs[1:], strict=True) if a is not None and b)
    x, key = first(rope), first(maker)
    fits = (x.shape[0], *x.shape[2:]) == (key.shape[0], *key.shape[2:]) and x.dtype == key.dtype
    return (maker, write) if alike and fits and maker.attrs == rope.attrs else None


def _writes_all(graph: Graph, write: Op, maker: Op | None) -> bool:
    """Whether all that ``maker`` makes, and nothing else, goes into a cache."""
    if _cache_index(write) is None or maker is None or graph.only_reader(maker.out.value) is not write:
        return False
    return write.inputs[1] is not None and same(write.inputs[1], maker.out)


def _before_quantizing(graph: Graph, op: Op | None) -> Op | None:
    """The op whose result becomes int8 for a cache, which the caches' own op writes."""
    while op is not None and op.kind == "map" and op.inputs:
        op = graph.maker(op.inputs[0])
    return op


def _cache_index(write: Op) -> View | None:
    """The positions, where the op sets rows of a cache [N, G, C, D]."""
    x, updates = write.inputs[0], write.inputs[1]
    if write.attrs["kind"] != "set" or write.attrs["axes"] != [2] or write.attrs["dims"] != [0, 1, -1, 3]:
        return None
    if write.attrs.get("wrap") or x is None or updates is None or len(write.inputs) != 3:
        return None
    if not x.is_whole or not write.out.is_whole or updates.shape[:2] != x.shape[:2] or updates.shape[3] != x.shape[3]:
        return None
    index = write.inputs[2]
    if index is None or index.dtype != "int64" or any(index.strides[d] for d in (0, 1, 3) if index.shape[d] > 1):
        return None
    return index.slice(0, 0, 1).drop(0).slice(0, 0, 1).drop(0).slice(1, 0, 1).drop(1)


def _values(graph: Graph, write: Op, v: View | None) -> Op | None:
    maker = graph.maker(v)
    if maker is None or maker.kind != "scatter" or not updates_like(maker, write):
        return None
    own, other = _cache_index(maker), _cache_index(write)
    return maker if own is not None and other is not None and same(own, other) else None


def updates_like(a: Op, b: Op) -> bool:
    """Whether both write the same number of rows to caches of the same size and dtype."""
    pairs = [(a.inputs[i], b.inputs[i]) for i in (0, 1)]
    return all(x is not None and y is not None and x.shape[:3] == y.shape[:3] and x.dtype == y.dtype for x, y in pairs)


def _join(graph: Graph, parts: list[Op]) -> None:
    rope, keys, *writes = parts
    inputs: tuple[View | None, ...]
    outputs: tuple[View | None, ...]
    last = max(map(graph.position, parts))
    readers = {reader for op in parts for view in op.writes() for reader in graph.readers(view.value)}
    if any(graph.position(reader) <= last for reader in readers.difference(parts)):
        return
    if not writes:
        inputs, outputs = (*rope.inputs, first(keys)), (rope.out, keys.out)
    else:
        index = _cache_index(writes[0])
        value, cache = (writes[1].inputs[1], writes[1].inputs[0]) if len(writes) > 1 else (None, None)
        inputs = (*rope.inputs, first(keys), value, writes[0].inputs[0], cache, index)
        outputs = (rope.out, *(write.out for write in writes))
    graph.merge(parts, Op("rope", rope.name, inputs, outputs, rope.attrs, nodes_of(*parts), rope.module))
