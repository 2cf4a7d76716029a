"""Checks a graph against the rules of docs/program-format.md between passes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .errors import VerifyError, described
from .graph import Graph, Op, Value, View
from .op_check import check_op

__all__ = ["Verified", "signature_of", "verify"]

_LARGEST = 2**24
"""Elements of the largest value whose writers are compared element by element; the core compares any."""


@dataclass
class Verified:
    """What was valid earlier and is not checked again, because ops do not change."""

    ops: set[Op] = field(default_factory=set)
    writers: set[tuple[Op, ...]] = field(default_factory=set)
    signature: list[str] | None = None
    """The inputs and outputs that the program must keep."""


def verify(graph: Graph, after: str, known: Verified | None = None, hint: str = "") -> None:
    """``after`` names what has changed the graph, and ``hint`` says what to do about it."""
    known = Verified() if known is None else known
    at: list[Op] = []  # the op at fault
    try:
        _verify(graph, known, at)
    except Exception as error:
        where = "".join(f"op '{op.name}' ({op.kind}): " for op in at)
        raise VerifyError(
            f"[compiler] {after} left an invalid graph: {where}"
            f"{error if type(error) is ValueError else described(error)}; expected a graph that follows the rules of "
            f"docs/program-format.md{hint}"
        ) from (None if type(error) is ValueError else error)


def _verify(graph: Graph, known: Verified, at: list[Op]) -> None:
    written: dict[Value, list[Op]] = {}
    for op in graph.ops():
        if op not in known.ops:
            at[:] = [op]
            check_op(op)
            known.ops.add(op)
        for view in op.writes():
            written.setdefault(view.value, []).append(op)
    given = {*graph.inputs, *graph.weights, *graph.constants}
    left = _check_order(graph, {value: _size(value) for value in written}, given, at)
    at.clear()
    for value, writers in written.items():
        if left[value]:
            raise ValueError(f"{left[value]} elements of '{value.name}' are never written")
        _check_writers(value, writers, known)
    _check_names("two ops of prepare", [op.name for op in graph.prepare])
    _check_names("two ops of main", [op.name for op in graph.main])
    _check_names("two values", [value.name for value in {*given, *written}])
    _check_outputs(graph, {view.value for op in graph.main for view in op.writes()})
    _check_signature(graph, known)


def _check_order(graph: Graph, left: dict[Value, int], given: set[Value], at: list[Op]) -> dict[Value, int]:
    """Checks that values are written, and only once, before they are read. ``left`` has the elements of each that are
    not written yet."""
    readable = {*graph.weights, *graph.constants}
    for ops, more in ((graph.prepare, ()), (graph.main, graph.inputs)):
        readable.update(more)
        for op in ops:
            at[:] = [op]
            for view in op.reads():
                if view.value not in readable:
                    raise ValueError(f"'{view.value.name}' is read before it is written")
                if left.get(view.value, 0):
                    raise ValueError(f"'{view.value.name}' is read before all of it is written")
            for view in op.writes():
                left[view.value] -= view.elements
                if view.value in given or left[view.value] < 0:
                    raise ValueError(f"'{view.value.name}' is written twice")
                readable.add(view.value)
    return left


def _check_writers(value: Value, ops: Sequence[Op], known: Verified) -> None:
    """Checks that no element is written twice. The number of elements written is known to be right."""
    key = tuple(ops)
    if key in known.writers or _size(value) > _LARGEST:
        return
    views = [view for op in ops for view in op.writes() if view.value is value]
    if _are_pieces(views):
        known.writers.add(key)
        return
    counts = np.zeros(_size(value), np.uint8)
    for view in views:
        counts[_elements(view)] += 1
    if counts.size and counts.max() > 1:
        names = ", ".join(f"'{op.name}'" for op in dict.fromkeys(ops))
        raise ValueError(f"element {int(counts.argmax())} of '{value.name}' is written more than once, by {names}")
    known.writers.add(key)


def _are_pieces(views: Sequence[View]) -> bool:
    """Whether each view has all elements of a piece of its value once, in any order, and the pieces are apart."""
    if len(views) == 1 and views[0].is_dense:
        return True
    pieces = []
    for view in views:
        elements = 1
        for stride, n in sorted((s, n) for n, s in zip(view.shape, view.strides, strict=True) if n != 1):
            if stride != elements:
                return False
            elements *= n
        pieces.append((view.offset, view.offset + elements))
    pieces.sort()
    return all(stop <= start for (_, stop), (start, _) in itertools.pairwise(pieces))


def _elements(view: View) -> np.ndarray:
    """The numbers of the elements in the value."""
    numbers = np.full((), view.offset, np.int64)
    for n, s in zip(view.shape, view.strides, strict=True):
        numbers = numbers[..., None] + np.arange(n) * s
    return numbers.reshape(-1)


def _check_names(what: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} are called '{name}'")
        seen.add(name)


def _check_outputs(graph: Graph, written: set[Value]) -> None:
    seen: set[Value] = set()
    for output in graph.outputs:
        if output.value not in written:
            raise ValueError(f"nothing in main writes the output '{output.name}'")
        if output.value in seen:
            raise ValueError(f"the output '{output.name}' has the value of another output")
        seen.add(output.value)
        if output.alias is not None and output.alias not in graph.inputs:
            raise ValueError(f"the output '{output.name}' updates '{output.alias.name}', which is not an input")


def _check_signature(graph: Graph, known: Verified) -> None:
    signature = signature_of(graph)
    if known.signature is None or signature == known.signature:
        return
    lost = [entry for entry in known.signature if entry not in signature]
    new = [entry for entry in signature if entry not in known.signature]
    changes = [f"{what} {', '.join(entries)}" for what, entries in (("lost", lost), ("new", new)) if entries]
    raise ValueError(f"the program's inputs or outputs changed: {'; '.join(changes) or 'they are in another order'}")


def signature_of(graph: Graph) -> list[str]:
    inputs = [("input", graph.label(value), value) for value in graph.inputs]
    outputs = [("output", output.name, output.value) for output in graph.outputs]
    return [f"{kind} '{name}' {value.dtype}{list(value.shape)}" for kind, name, value in (*inputs, *outputs)]


def _size(value: Value) -> int:
    return math.prod(value.shape)
