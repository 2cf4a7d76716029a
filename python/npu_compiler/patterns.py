"""Patterns as text, matched against the ops of a graph, such as ``"x * rsqrt(mean(x * x) + eps) * w?"``.

A pattern is an expression with named holes, in the language of exprs.py:

- A name is a hole for a tensor, or for a number if the rule lists it. A repeated name means the same elements.
- A function is a step of a map (``rsqrt``), a reduction (``mean``, ``var`` without correction, ``sum``) or an op
  (``matmul``). ``+`` and ``*`` match operands in either order. ``x * number`` also matches a division by its inverse.
- ``E * w?`` matches ``E * w`` if nothing else reads E, and otherwise E. ``?`` after an op's operand makes it optional.
- ``rounded(E)`` matches E with or without a conversion to another float dtype. A conversion from half to float32 is
  exact, and is allowed anywhere, as in match.step_names.
- ``alone(E)`` matches E if nothing else reads it.

Matching does not depend on how steps are divided into maps, or on views: a hole is a view with its elements in the
order of the op that reads it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from dataclasses import replace as copy_with
from functools import cached_property

from npu_base.errors import InvalidTypeError, InvalidValueError

from .exprs import class_of
from .graph import Graph, Op, View, dense_strides, nodes_of, remap, same
from .opset import EXPRESSION_OPS, OPS

__all__ = ["Match", "Pattern", "Rule", "rewrite"]

_FLOATS = ("float32", "float16", "bfloat16")
_REDUCTIONS = ("mean", "var", "sum")
_OPERATORS: dict[type, str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
_EITHER_ORDER = frozenset(("add", "mul"))


@dataclass(frozen=True)
class Hole:
    name: str
    is_number: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Call:
    """``name`` of ``kind`` step, reduce, op, or a mark: rounded, alone, maybe."""

    kind: str
    name: str
    args: tuple[Node, ...]

    @cached_property
    def starts(self) -> frozenset[str]:
        """What the last step of a matching op may be; empty if any tensor matches."""
        if self.kind == "step":
            return frozenset((self.name, "div") if self.is_scaling else (self.name,))
        if self.kind in ("reduce", "op"):
            return frozenset((self.name,))
        parts = [self.args[0], self.bare] if self.kind == "maybe" else [self.args[0]]
        starts = [part.starts if isinstance(part, Call) else frozenset() for part in parts]
        return frozenset().union(*starts) if all(starts) else frozenset()

    @cached_property
    def bare(self) -> Node:
        """The pattern without its optional part, and without a conversion that belongs to that part."""
        if self.kind not in ("maybe", "rounded", "alone"):
            return self
        part = self.args[-1]
        return part.bare if isinstance(part, Call) and part.kind in ("rounded", "alone") else part

    @cached_property
    def is_scaling(self) -> bool:
        """Whether it multiplies by a number."""
        return self.name == "mul" and isinstance(self.args[1], Hole) and self.args[1].is_number

    @cached_property
    def has_optional_part(self) -> bool:
        return self.kind == "step" and len(self.args) == 2 and isinstance(self.args[1], Hole) and self.args[1].optional

    def may_be(self, op: Op | None) -> bool:
        return op is not None and ((start := _start(op)) in self.starts or start in _TRANSPARENT)


Node = Hole | Call
_TRANSPARENT = ("in", "cast")
_OPTIONAL = "_optional"


@dataclass(frozen=True)
class Match:
    """The views and numbers of the holes, and the ops that the pattern covers, the root first. ``axes`` are the axes of
    its reductions."""

    graph: Graph
    views: dict[str, tuple[View, ...]]
    numbers: dict[str, float]
    ops: tuple[Op, ...] = ()
    axes: tuple[int, ...] | None = None

    def __getitem__(self, hole: str) -> View:
        return self.views[hole][0]

    def get(self, hole: str) -> View | None:
        return self.views[hole][0] if hole in self.views else None

    def seen(self, hole: str) -> tuple[View, ...]:
        """All views that matched the hole, for example of a half tensor and of its float32 copy."""
        return self.views.get(hole, ())

    @property
    def root(self) -> Op:
        return self.ops[0]

    @property
    def nodes(self) -> tuple[str, ...]:
        return nodes_of(*sorted(self.ops, key=self.graph.position))

    def op(self, kind: str) -> Op:
        return next(op for op in self.ops if op.kind == kind)

    def covering(self, op: Op) -> Match:
        return self if op in self.ops else Match(self.graph, self.views, self.numbers, (*self.ops, op), self.axes)

    def holding(self, hole: str, view: View) -> Match | None:
        known = self.views.get(hole, ())
        if view in known:
            return self
        if known and not _alike(self.graph, known[0], view):
            return None
        return Match(self.graph, {**self.views, hole: (*known, view)}, self.numbers, self.ops, self.axes)

    def counting(self, hole: str, number: float) -> Match | None:
        if self.numbers.get(hole, number) != number:
            return None
        return copy_with(self, numbers={**self.numbers, hole: number})

    def reducing(self, axes: tuple[int, ...]) -> Match | None:
        return None if self.axes not in (None, axes) else copy_with(self, axes=axes)


class Pattern:
    """``numbers`` names the holes for numbers."""

    def __init__(self, text: str, numbers: Collection[str] = ()) -> None:
        if not isinstance(text, str):
            got = type(text).__name__
            raise InvalidTypeError(f"[compiler] a pattern is text; got {got}; expected 'x * y' or the like")
        self.text = text
        try:
            tree = ast.parse(re.sub(r"(\w+)\?", rf"\1{_OPTIONAL}", text), mode="eval").body
            root = _node(tree, frozenset(numbers))
            if isinstance(root, Hole):
                raise ValueError("any tensor fits it")
        except (ValueError, SyntaxError, IndexError) as error:
            reason = str(error).replace(_OPTIONAL, "?")
            raise InvalidValueError(f"[compiler] '{text}' cannot be a pattern: {reason}") from None
        self.root, self.starts = root, root.starts

    def match(self, graph: Graph, op: Op) -> Iterator[Match]:
        """All ways in which ``op`` is what the pattern says."""
        if _start(op) in self.starts and graph.maker(op.out) is op:
            yield from _view(self.root, op.out, Match(graph, {}, {}))


@dataclass(frozen=True)
class Rule:
    """``make`` gives what replaces the root of the first match that it accepts; None refuses a match."""

    pattern: Pattern
    make: Callable[[Match], Op | None]


def rewrite(graph: Graph, rules: Collection[Rule]) -> list[Op]:
    """Applies the rules and returns the ops that they put in, the last first: so the longest form of a pattern is
    matched before its parts."""
    by_start: dict[str, list[Rule]] = {}
    for rule in rules:
        for start in rule.pattern.starts:
            by_start.setdefault(start, []).append(rule)
    replacements: list[Op] = []
    for op in reversed(graph.main):
        for rule in by_start.get(_start(op), ()):
            accepted = next(
                ((m, new) for m in rule.pattern.match(graph, op) if (new := rule.make(m)) is not None), None
            )
            if accepted is not None:
                replacements.append(graph.replace(op, accepted[1]))
                _drop_unread(graph, accepted[0].ops[1:])
                break
    return replacements


def _drop_unread(graph: Graph, ops: Collection[Op]) -> None:
    for op in sorted(ops, key=graph.position, reverse=True):
        if not any(graph.readers(view.value) or graph.is_output(view.value) for view in op.writes()):
            graph.remove(op)


# From text


def _node(tree: ast.expr, numbers: frozenset[str]) -> Node:
    if isinstance(tree, ast.Name):
        name = tree.id.removesuffix(_OPTIONAL)
        return Hole(name, name in numbers, name != tree.id)
    node = _call(tree, numbers)
    if not node.starts:
        raise ValueError(f"any tensor fits '{ast.unparse(tree)}'")
    return node


def _call(tree: ast.expr, numbers: frozenset[str]) -> Call:
    if isinstance(tree, ast.BinOp) and type(tree.op) in _OPERATORS:
        left, right = _node(tree.left, numbers), _node(tree.right, numbers)
        call = Call("step", _OPERATORS[type(tree.op)], (left, right))
        return Call("maybe", "maybe", (call, left)) if call.has_optional_part else call
    if isinstance(tree, ast.IfExp):
        return Call("step", "where", tuple(_node(t, numbers) for t in (tree.test, tree.body, tree.orelse)))
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        raise ValueError(f"'{ast.unparse(tree)}' is not a pattern; expected names, operators, functions and choices")
    name, args = tree.func.id, tuple(_node(t, numbers) for t in tree.args)
    if name in ("rounded", "alone"):
        return Call(name, name, args)
    kinds = {"reduce": _REDUCTIONS, "op": OPS, "step": EXPRESSION_OPS}
    kind = next((kind for kind, known in kinds.items() if name in known), None)
    if kind is None:
        raise ValueError(f"'{name}' is unknown; expected a reduction, an op, or a step of an expression")
    return Call(kind, name, args)


def _start(op: Op) -> str:
    return str(op.attrs["expr"][-1][0] if op.kind == "map" else op.attrs["kind"] if op.kind == "reduce" else op.kind)


# Matching


def _view(node: Node, view: View, m: Match, alone: bool = False) -> Iterator[Match]:
    """``alone``: nothing else may read the value, nor what it was converted from."""
    if isinstance(node, Hole):
        yield from _hole(node, view, m)
        return
    if node.kind == "alone":
        yield from _view(node.args[0], view, m, alone=True)
        return
    if alone and m.graph.only_reader(view.value) is None:
        return
    op = m.graph.dense_maker(view)
    if op is None:
        return
    if op.kind == "map":
        yield from _step(node, op, view, len(op.attrs["expr"]) - 1, m.covering(op), alone)
    elif node.kind == "rounded":
        yield from _view(node.args[0], view, m, alone)
    elif node.kind == "maybe":
        yield from _view(node.bare, view, m, alone)
    elif node.kind == "reduce" and op.kind == "reduce" and op.attrs["kind"] == node.name:
        yield from _reduction(node, op, view, m.covering(op))
    elif node.kind == "op" and op.kind == node.name and view.is_dense:
        yield from _operands(node, op, m.covering(op))


def _hole(hole: Hole, view: View, m: Match) -> Iterator[Match]:
    if not hole.is_number:
        bound = m.holding(hole.name, view)
    else:
        makers = m.graph.writers(view.value)
        steps = makers[0].attrs.get("expr", []) if len(makers) == 1 else []
        bound = m.counting(hole.name, float(steps[0][1])) if len(steps) == 1 and steps[0][0] == "const" else None
    if bound is not None:
        yield bound


def _step(node: Node, op: Op, view: View, at: int, m: Match, alone: bool = False) -> Iterator[Match]:
    """Step ``at`` of the op's expression, as the view sees it."""
    steps = op.attrs["expr"]
    name, *args = steps[at]
    if name == "in":
        operand = list(op.reads())[args[0]]
        if isinstance(node, Call) and not node.may_be(m.graph.maker(operand)):
            return
        inner = operand if view.is_dense else remap(view, operand)
        if inner is not None:
            yield from _view(node, inner, m, alone)
    elif isinstance(node, Call) and node.kind == "alone":
        yield from _step(node.args[0], op, view, at, m, alone=True)
    elif isinstance(node, Call) and node.kind == "rounded":
        yield from _step(node.args[0], op, view, at, m, alone)
        if name == "cast" and args[1] in _FLOATS and _is_float(op, args[0]):
            yield from _step(node, op, view, args[0], m, alone)
    elif name == "cast":
        if args[1] == "float32" and _is_float(op, args[0]):
            yield from _step(node, op, view, args[0], m, alone)
    elif isinstance(node, Hole):
        bound = m.counting(node.name, float(args[0])) if node.is_number and name == "const" else None
        if bound is not None:
            yield bound
    elif node.kind == "maybe":
        yield from _step(node.args[0], op, view, at, m, alone)
        yield from _step(node.bare, op, view, at, m, alone)
    elif node.kind == "step":
        yield from _arguments(node, op, view, (name, args), m)


def _arguments(node: Call, op: Op, view: View, step: tuple[str, list[int]], m: Match) -> Iterator[Match]:
    (name, args), nodes = step, node.args
    if name == "div" and node.is_scaling:
        yield from _division(node, op, view, args, m)
    if name != node.name:
        return
    for order in (nodes, nodes[::-1]) if name in _EITHER_ORDER else (nodes,):
        matches = iter((m,))
        for part, at in sorted(zip(order, args, strict=True), key=_is_open):  # what can fail at once comes first
            matches = _each(matches, part, op, view, at, alone=node.has_optional_part and part is nodes[0])
        yield from matches


def _is_open(pair: tuple[Node, int]) -> bool:
    return isinstance(pair[0], Hole)


def _each(matches: Iterator[Match], node: Node, op: Op, view: View, at: int, alone: bool) -> Iterator[Match]:
    for m in matches:
        yield from _step(node, op, view, at, m, alone)


def _division(node: Call, op: Op, view: View, args: list[int], m: Match) -> Iterator[Match]:
    """``E / c`` as E times a number."""
    divisor = op.attrs["expr"][args[1]]
    if divisor[0] != "const" or not float(divisor[1]):
        return
    part, hole = node.args
    assert isinstance(hole, Hole)
    for partial in _step(part, op, view, args[0], m, alone=hole.optional):
        bound = partial.counting(hole.name, 1 / float(divisor[1]))
        if bound is not None:
            yield bound


def _reduction(node: Call, op: Op, view: View, m: Match) -> Iterator[Match]:
    """Of what is reduced the elements lie in the op's own order; the view must give each group its own number."""
    x = next(op.reads())
    axes = tuple(sorted(op.attrs["axes"]))
    if op.attrs.get("correction") or not (view.is_dense or same(view, _spread(view, x, axes))):
        return
    reduced = m.reducing(axes)
    if reduced is not None:
        yield from _view(node.args[0], x, reduced)


def _spread(view: View, x: View, axes: tuple[int, ...]) -> View:
    kept = iter(dense_strides(n for d, n in enumerate(x.shape) if d not in axes))
    return View(view.value, x.shape, tuple(0 if d in axes else next(kept) for d in range(x.rank)))


def _operands(node: Call, op: Op, m: Match) -> Iterator[Match]:
    if op.attrs.get("epilogue") or any(v is not None for v in op.inputs[len(node.args) :]):
        return
    matches = iter((m,))
    for i, part in enumerate(node.args):
        view = op.inputs[i] if i < len(op.inputs) else None
        if view is not None:
            matches = _each_view(matches, part, view)
        elif not (isinstance(part, Hole) and part.optional):
            return
    yield from matches


def _each_view(matches: Iterator[Match], node: Node, view: View) -> Iterator[Match]:
    for m in matches:
        yield from _view(node, view, m)


def _is_float(op: Op, at: int) -> bool:
    """Whether a step gives floats. For steps that compute, the first operand decides."""
    name, *args = op.attrs["expr"][at]
    if name == "in":
        return class_of(list(op.reads())[args[0]].dtype) == "f"
    if name in ("const", "cast"):
        return bool(args[1] == "f" if name == "const" else class_of(args[1]) == "f")
    return EXPRESSION_OPS[name].gives == "f" or (EXPRESSION_OPS[name].gives != "b" and _is_float(op, args[-1]))


def _alike(graph: Graph, a: View, b: View) -> bool:
    """Whether the views have the same elements in the same order, in any shape, one of them possibly widened."""
    if _same_in_any_shape(a, b):
        return True
    a, b = _unwidened(graph, a), _unwidened(graph, b)
    return _same_in_any_shape(a, b)


def _same_in_any_shape(a: View, b: View) -> bool:
    return a.value is b.value and same(a if a.shape == b.shape else a.reshape(b.shape), b)


def _unwidened(graph: Graph, view: View) -> View:
    """The half tensor that a float32 tensor was converted from."""
    op = graph.dense_maker(view)
    if op is None or op.kind != "map" or op.attrs["expr"] not in ([["in", 0], ["cast", 0, "float32"]], [["in", 0]]):
        return view
    operand = next(op.reads())
    source = operand if view.is_dense else remap(view, operand)
    return source if source is not None and source.dtype in ("float16", "bfloat16") else view
