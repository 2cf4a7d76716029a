"""Sums of convolutions of one tensor become one convolution, whose weight is the sum of theirs.

Networks that are trained with several branches side by side (RepVGG, MobileOne, FastViT) need only one to run. A
smaller kernel is padded with zeros to the taps of the larger one. A scale and shift per channel, as of a branch that is
a batch norm alone, is a convolution of one tap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as copy_with

from ..exprs import Expression, Ref
from ..graph import Graph, Op, Value, View, nodes_of, same, whole
from ..patterns import Pattern
from .batch_norm import fixed_values, map_of, per_channel
from .simplify import dead_code

SKIP = Pattern("x * scale + shift")
_SUM = [["in", 0], ["in", 1], ["add", 0, 1]]
_SHARED = ("stride", "input_dilation", "groups")


@dataclass(frozen=True)
class _Branch:
    """A term of a sum: ``conv``, or a skip beside it. ``made`` are the ops of the term."""

    conv: Op
    weight: View
    bias: View | None
    low: tuple[int, ...]
    made: tuple[Op, ...]

    @property
    def kernel(self) -> tuple[int, ...]:
        return self.weight.shape[2:]


def sum_convolutions(graph: Graph) -> None:
    fixed = fixed_values(graph)
    for op in reversed(list(graph.main)):
        if op in graph and op.kind == "map" and _sum_of(op):
            _join_terms(graph, op, fixed)
    dead_code(graph)


def _sum_of(op: Op) -> list[View]:
    """What an op adds up; nothing for other ops."""
    steps, views = op.attrs.get("expr", []), list(op.reads())
    if op.kind != "map" or op.out.dtype != "float32" or not op.out.is_whole:
        return []
    adds_zero = len(steps) == 3 and steps[2][0] == "add" and any(s[:2] == ["const", 0] for s in steps[:2])
    plain = all(view.is_whole and view.dtype == "float32" and view.shape == op.out.shape for view in views)
    return views if plain and (steps == _SUM or (adds_zero and len(views) == 1)) else []


def _terms(graph: Graph, view: View, sums: list[Op]) -> Iterator[View]:
    """The terms of a sum of sums, which are collected in ``sums``."""
    maker = graph.dense_maker(view)
    parts = _sum_of(maker) if maker is not None and graph.only_reader(view.value) else []
    if maker is None or not parts:
        yield view
        return
    sums.append(maker)
    for part in parts:
        yield from _terms(graph, part, sums)


def _join_terms(graph: Graph, root: Op, fixed: set[Value]) -> None:
    sums = [root]
    terms = [term for part in _sum_of(root) for term in _terms(graph, part, sums)]
    joined: list[_Branch] = []
    taken: list[View] = []
    branches = list(_branches(graph, root, terms, fixed))
    for view, branch in sorted(branches, key=_size, reverse=True):
        wider = next((i for i, other in enumerate(joined) if _place(other, branch) is not None), None)
        if wider is not None:
            joined[wider] = _joined(graph, root, joined[wider], branch)
        elif branch.made[0].kind == "conv":
            joined.append(branch)
        else:
            continue
        taken.append(view)
    if len(joined) == len(taken):
        return
    rest = [view for view in terms if view not in taken]
    results = [root.out if len(joined) + len(rest) == 1 else _own(graph, root, b.conv.name) for b in joined]
    for branch, out in zip(joined, results, strict=True):
        inputs = (branch.conv.inputs[0], branch.weight, *([branch.bias] if branch.bias is not None else []))
        nodes = nodes_of(*sorted(branch.made, key=graph.position))
        new = Op("conv", branch.conv.name, inputs, (out,), branch.conv.attrs, nodes, branch.conv.module)
        graph.insert(new, before=root)
    _add_up(graph, root, [*results, *rest], sums)


def _size(term: tuple[View, _Branch]) -> tuple[int, bool]:
    """Larger kernels first, and convolutions before skips."""
    return math.prod(term[1].kernel), term[1].made[0].kind == "conv"


def _own(graph: Graph, root: Op, name: str) -> View:
    return whole(graph.temp(f"{name}.sum", "float32", root.out.shape))


def _add_up(graph: Graph, root: Op, terms: list[View], sums: list[Op]) -> None:
    """Writes the sum of the terms where ``root`` wrote it."""
    total = terms[0]
    for i, term in enumerate(terms[1:], start=2):
        last = i == len(terms)
        out = root.out if last else _own(graph, root, root.name)
        name = root.name if last else out.value.name
        graph.insert(Op("map", name, (total, term), (out,), {"expr": _SUM}, nodes_of(*sums), root.module), before=root)
        total = out
    graph.remove(root)


def _branches(graph: Graph, root: Op, terms: list[View], fixed: set[Value]) -> Iterator[tuple[View, _Branch]]:
    convs = {}
    once = [view for view in terms if terms.count(view) == 1]
    for view in once:
        conv = graph.dense_maker(view)
        if conv is None or conv.kind != "conv" or not graph.only_reader(view.value):
            continue
        weight, bias = conv.inputs[1], conv.inputs[2] if len(conv.inputs) > 2 else None
        given = [v for v in (weight, bias) if v is not None]
        if weight is None or conv.attrs.get("epilogue") or not all(v.value in fixed for v in given):
            continue
        if all(v.dtype == "float32" for v in given):
            convs[view] = _Branch(conv, weight, bias, tuple(conv.attrs["padding_low"]), (conv,))
    yield from convs.items()
    for view in once:
        skip = graph.dense_maker(view)
        if skip is not None and view not in convs and graph.only_reader(view.value):
            branch = next((b for beside in convs.values() if (b := _skip(graph, root, skip, beside, fixed))), None)
            if branch is not None:
                yield view, branch


def _skip(graph: Graph, root: Op, op: Op, beside: _Branch, fixed: set[Value]) -> _Branch | None:
    """A scale and shift of what the convolution reads, as a kernel of one tap."""
    x = beside.conv.inputs[0]
    stride = zip(op.out.shape[2:], beside.conv.attrs["stride"], strict=True)
    if x is None or x.shape != op.out.shape or any(n > 1 and s > 1 for n, s in stride):
        return None
    for m in SKIP.match(graph, op):
        scale, shift = per_channel(m["scale"]), per_channel(m["shift"])
        if any(same(x, view) for view in m.seen("x")) and scale and shift and {scale.value, shift.value} <= fixed:
            weight = _diagonal(graph, root, beside.conv, scale, beside.weight.shape[1])
            for _ in range(beside.weight.rank - weight.rank):
                weight = weight.unsqueeze(weight.rank)
            return _Branch(beside.conv, weight, shift, (0,) * (weight.rank - 2), (*m.ops,))
    return None


def _joined(graph: Graph, root: Op, large: _Branch, small: _Branch) -> _Branch:
    conv = large.conv
    first = _place(large, small)
    assert first is not None
    weight = graph.temp(f"{conv.name}.weight", "float32", large.weight.shape)
    other = small.weight if small.kernel == large.kernel else _padded(graph, root, small, large, first)
    graph.insert(map_of(weight.name, "a + b", {"a": large.weight, "b": other}, weight), before=root)
    biases = [b.bias for b in (large, small) if b.bias is not None]
    if len(biases) == 2:
        bias = graph.temp(f"{conv.name}.bias", "float32", biases[0].shape)
        graph.insert(map_of(bias.name, "a + b", dict(zip("ab", biases, strict=True)), bias), before=root)
        biases = [whole(bias)]
    return copy_with(large, weight=whole(weight), bias=biases[0] if biases else None, made=(*large.made, *small.made))


def _place(large: _Branch, small: _Branch) -> tuple[int, ...] | None:
    """The index of the small kernel's first tap in the large one; None if they cannot be joined."""
    ours, theirs = large.conv, small.conv
    x = ours.inputs[0]
    if x is None or not same(theirs.inputs[0], x) or any(ours.attrs.get(n) != theirs.attrs.get(n) for n in _SHARED):
        return None
    first = []
    for d, (n, k) in enumerate(zip(large.kernel, small.kernel, strict=True)):
        step = large.conv.attrs["dilation"][d]
        same_step = k == 1 or n == 1 or small.conv.attrs["dilation"][d] == step
        at, between = divmod(large.low[d] - small.low[d], step)
        if between or not same_step or at < 0 or at + k > n:
            return None
        first.append(at)
    return tuple(first)


def _padded(graph: Graph, root: Op, small: _Branch, large: _Branch, first: tuple[int, ...]) -> View:
    padded = graph.temp(f"{small.conv.name}.padded", "float32", large.weight.shape)
    after = (n - k - at for n, k, at in zip(large.kernel, small.kernel, first, strict=True))
    attrs = {"low": [0, 0, *first], "high": [0, 0, *after], "kind": "constant", "value": 0.0}
    graph.insert(Op("pad", padded.name, (small.weight,), (whole(padded),), attrs), before=root)
    return whole(padded)


def _diagonal(graph: Graph, root: Op, conv: Op, scale: View, inner: int) -> View:
    """``[channels, inner]``: the scale where a channel reads itself, 0 where it reads another of its group."""
    if inner == 1:
        return scale.unsqueeze(1)
    name, channels = conv.name, conv.out.shape[1]
    groups = channels // inner
    index = graph.temp(f"{name}.channel", "int64", (inner,))
    graph.insert(Op("iota", index.name, (), (whole(index),), {"start": 0, "step": 1}), before=root)
    diagonal = graph.temp(f"{name}.diagonal", "float32", (channels, inner))
    shape = (groups, inner, inner)
    own, other = View(index, shape, (0, 1, 0)), View(index, shape, (0, 0, 1))
    step = scale.strides[0]
    scales = View(scale.value, shape, (inner * step, step, 0), scale.offset)
    expr = Expression()
    env = {"s": Ref(expr.load(0, "f")), "i": Ref(expr.load(1, "i")), "j": Ref(expr.load(2, "i"))}
    steps = expr.finish(expr.eval("s if i == j else 0", env))
    out = whole(diagonal).reshape(shape)
    assert out is not None
    graph.insert(Op("map", diagonal.name, (scales, own, other), (out,), {"expr": steps}), before=root)
    return whole(diagonal)
