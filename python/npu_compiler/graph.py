"""The graph that passes rewrite: ordered ops on views, with the readers and writers of each value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as copy_with
from typing import Any

from npu_base.errors import InvalidTypeError

from .oplist import Link, OpList
from .view import Shape, Value, View, dense_strides, remap, same, whole

__all__ = [
    "Attributes",
    "Graph",
    "Op",
    "Output",
    "Shape",
    "Value",
    "View",
    "dense_strides",
    "nodes_of",
    "remap",
    "same",
    "whole",
]


class Attributes(dict[str, Any]):
    """The attributes of an op: a dict that cannot be changed."""

    def _refuse(self, *args: Any, **more: Any) -> Any:
        raise InvalidTypeError(
            "[compiler] the attributes of an op are read-only; try graph.change(op, attrs={**op.attrs, 'name': value})"
        )

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> Any:
        return Attributes, (dict(self),)


@dataclass(eq=False, slots=True, frozen=True)
class Op:
    """An op is immutable: a pass replaces it, as in ``graph.change(op, attrs={**op.attrs, "axis": 1})``. ``hints`` tell
    later passes about its origin and are not written to the program."""

    kind: str
    name: str
    inputs: tuple[View | None, ...]
    outputs: tuple[View | None, ...]
    attrs: Mapping[str, Any] = field(default_factory=Attributes)
    nodes: tuple[str, ...] = ()
    module: str = ""
    hints: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.inputs) is not tuple:
            object.__setattr__(self, "inputs", tuple(self.inputs))
        if type(self.outputs) is not tuple:
            object.__setattr__(self, "outputs", tuple(self.outputs))
        if type(self.attrs) is not Attributes:
            object.__setattr__(self, "attrs", Attributes(self.attrs))

    @property
    def out(self) -> View:
        first = self.outputs[0]
        return next(self.writes()) if first is None else first

    def reads(self) -> Iterator[View]:
        return filter(None, self.inputs)

    def writes(self) -> Iterator[View]:
        return filter(None, self.outputs)


def nodes_of(*ops: Op) -> tuple[str, ...]:
    """The nodes of the IR that these ops come from, each once."""
    return tuple(dict.fromkeys(node for op in ops for node in op.nodes))


@dataclass(eq=False, slots=True)
class Output:
    name: str
    value: Value
    names: list[str] = field(default_factory=list)
    alias: Value | None = None


Uses = dict[Value, dict[Op, None]]


@dataclass(eq=False, slots=True)
class Graph:
    """Two functions of ordered ops, ``prepare`` and ``main``. Only methods of this class add and remove ops, because
    they track the readers and writers of each value. ``state`` are the inputs that the program updates, and ``ties``
    the other names of weights."""

    model_name: str
    inputs: list[Value] = field(default_factory=list)
    weights: list[Value] = field(default_factory=list)
    constants: list[Value] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    ties: dict[str, str] = field(default_factory=dict)
    state: set[Value] = field(default_factory=set)
    buffers: set[Value] = field(default_factory=set)
    """The state inputs that are buffers of the model: a caller need not pass them."""
    rounding: str = "deciding"
    """Which half-precision results are rounded when they are fused into their readers (passes/rounding.py):
    "deciding", "all" or "none"."""
    name_mapping: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    labels: dict[Value, str] = field(default_factory=dict)
    """The names of inputs, weights and constants outside the program. They need not be unique."""
    changes: int = 0
    """How often ops were added, removed or replaced."""
    _prepare: OpList[Op] = field(default_factory=lambda: OpList(0), repr=False)
    _main: OpList[Op] = field(default_factory=lambda: OpList(1), repr=False)
    _links: dict[Op, Link[Op]] = field(default_factory=dict, repr=False)
    _readers: Uses = field(default_factory=dict, repr=False)
    _writers: Uses = field(default_factory=dict, repr=False)

    # Names

    def label(self, value: Value) -> str:
        return self.labels.get(value, value.name)

    def unique(self, name: str) -> str:
        candidate, n = name, 1
        while candidate in self.names:
            candidate, n = f"{name}.{n}", n + 1
        self.names.add(candidate)
        return candidate

    def temp(self, name: str, dtype: str, shape: Iterable[int]) -> Value:
        return Value(self.unique(name), dtype, tuple(shape))

    # Who reads and writes

    @property
    def prepare(self) -> OpList[Op]:
        return self._prepare

    @property
    def main(self) -> OpList[Op]:
        return self._main

    def ops(self) -> Iterator[Op]:
        yield from self.prepare
        yield from self.main

    def readers(self, value: Value) -> list[Op]:
        """Each reader once, in order."""
        return self._in_order(self._readers.get(value))

    def writers(self, value: Value) -> list[Op]:
        return self._in_order(self._writers.get(value))

    def _in_order(self, uses: dict[Op, None] | None) -> list[Op]:
        if not uses:
            return []
        return list(uses) if len(uses) == 1 else sorted(uses, key=self.position)

    def position(self, op: Op) -> tuple[int, float]:
        """For comparisons: an op that runs earlier has a lower position."""
        link = self._links[op]
        return link.ops.rank, link.key

    def is_in(self, op: Op, ops: OpList[Op]) -> bool:
        return self._links[op].ops is ops

    def __contains__(self, op: Op) -> bool:
        return op in self._links

    def output_values(self) -> set[Value]:
        return {output.value for output in self.outputs}

    def is_output(self, value: Value) -> bool:
        return any(output.value is value for output in self.outputs)

    def only_reader(self, value: Value) -> Op | None:
        """The only reader of a value that is not an output."""
        users = self._readers.get(value, ())
        return next(iter(users)) if len(users) == 1 and not self.is_output(value) else None

    def maker(self, view: View | None) -> Op | None:
        """The op of ``main`` that writes all of the value."""
        writers = self._writers.get(view.value, ()) if view is not None else ()
        op = next(iter(writers)) if len(writers) == 1 else None
        return op if op is not None and self.is_in(op, self.main) else None

    def dense_maker(self, view: View | None) -> Op | None:
        """The same, if it writes the value in row-major order, so that elements have the order of the op's result."""
        op = self.maker(view)
        return op if op is not None and op.out.is_dense else None

    # Changes

    def append(self, op: Op, ops: OpList[Op] | None = None) -> Op:
        """Adds the op at the end of ``main``, or of ``ops``."""
        self._links[op] = (self.main if ops is None else ops).append(op)
        self._enter(op)
        return op

    def insert(self, op: Op, before: Op | None) -> Op:
        """Adds the op before another one, or at the end of ``main``."""
        if before is None:
            return self.append(op)
        link = self._links[before]
        self._links[op] = link.ops.insert(op, link)
        self._enter(op)
        return op

    def remove(self, *ops: Op) -> None:
        for op in ops:
            link = self._links.pop(op)
            link.ops.remove(link)
            self._leave(op)

    def replace(self, op: Op, new: Op) -> Op:
        """Puts ``new`` at the position of ``op``."""
        link = self._links[new] = self._links.pop(op)
        link.op = new
        self._leave(op)
        self._enter(new)
        return new

    def change(self, op: Op, **fields: Any) -> Op:
        """Replaces the op by a copy with other ``fields``."""
        return self.replace(op, copy_with(op, **fields))

    def merge(self, ops: Iterable[Op], new: Op) -> Op:
        """Replaces all of ``ops`` by ``new``, at the position of the last one, where all that they read exists."""
        *others, last = sorted(ops, key=self.position)
        self.remove(*others)
        return self.replace(last, new)

    def move(self, op: Op, before: Op | None = None, ops: OpList[Op] | None = None) -> None:
        """Moves the op before another one, or to the end of ``ops``."""
        self.remove(op)
        if before is None:
            self.append(op, ops)
        else:
            self.insert(op, before)

    def relocate(self, values: Iterable[Value], moved: Callable[[View], View | None], skip: Iterable[Op] = ()) -> bool:
        """Replaces each view of ``values`` by ``moved(view)`` in all ops that read or write them, except ``skip``. If
        one of these is None, nothing changes and the result is False."""
        chosen, left = set(values), set(skip)
        users = {op: None for v in chosen for uses in (self._readers, self._writers) for op in uses.get(v, ())}
        plan: list[tuple[Op, list[View | None], list[View | None]]] = []
        for op in sorted((op for op in users if op not in left), key=self.position):
            both = [_relocated(views, chosen, moved) for views in (op.inputs, op.outputs)]
            if both[0] is None or both[1] is None:
                return False
            plan.append((op, both[0], both[1]))
        for op, inputs, outputs in plan:
            self.change(op, inputs=inputs, outputs=outputs)
        return True

    def read_instead(self, value: Value, other: Value) -> None:
        """All readers of the value read another value of the same shape instead."""
        for op in self.readers(value):
            inputs = [v and (v.of(other) if v.value is value else v) for v in op.inputs]
            self.change(op, inputs=inputs)

    def _enter(self, op: Op) -> None:
        self.changes += 1
        for view in op.inputs:
            if view is not None:
                self._readers.setdefault(view.value, {})[op] = None
        for view in op.outputs:
            if view is not None:
                self._writers.setdefault(view.value, {})[op] = None

    def _leave(self, op: Op) -> None:
        self.changes += 1
        for view in op.inputs:
            if view is not None:
                self._readers[view.value].pop(op, None)
        for view in op.outputs:
            if view is not None:
                self._writers[view.value].pop(op, None)


def _relocated(
    views: Iterable[View | None], values: set[Value], moved: Callable[[View], View | None]
) -> list[View | None] | None:
    relocated: list[View | None] = []
    for view in views:
        if view is None or view.value not in values:
            relocated.append(view)
            continue
        other = moved(view)
        if other is None:
            return None
        relocated.append(other)
    return relocated
