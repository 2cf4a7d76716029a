"""What patterns ask of ops: who makes a value, who reads it, and which small expression a map is."""

from __future__ import annotations

from ..graph import Graph, Op, Value, View
from ..opset import OPS


class Matcher:
    """The ops of ``main`` by what they make and read."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.outputs = graph.output_values()
        self.readers = graph.readers()
        self.writers = graph.writers()
        self.position = {id(op): i for i, op in enumerate(graph.main)}

    def maker(self, view: View | None) -> Op | None:
        """The op of ``main`` that makes all of the value."""
        made = self.writers.get(view.value, []) if view is not None else []
        return made[0] if len(made) == 1 and id(made[0]) in self.position else None

    def parts(self, value: Value) -> list[Op]:
        return self.writers.get(value, [])

    def only_reader(self, value: Value) -> Op | None:
        """The op that alone reads a value which is no output."""
        users = self.readers.get(value, [])
        return users[0] if len(users) == 1 and value not in self.outputs else None


def step_names(op: Op) -> list[str]:
    return [step[0] for step in op.attrs.get("expr", [])] if op.kind == "map" else []


def first(op: Op) -> View:
    view = op.inputs[0]
    assert view is not None
    return view


def same(view: View | None, want: View) -> bool:
    """The same elements in the same order: strides of single elements say nothing."""
    if view is None or view.value is not want.value or view.shape != want.shape or view.offset != want.offset:
        return False
    return all(n <= 1 or a == b for n, a, b in zip(view.shape, view.strides, want.strides, strict=True))


def scale_of(op: Op) -> tuple[View, float] | None:
    """``x`` and ``c``, where the op is x * c or x / c for a number c."""
    if step_names(op) not in (["in", "const", "mul"], ["in", "const", "div"], ["const", "in", "mul"]):
        return None
    number = float(next(step[1] for step in op.attrs["expr"] if step[0] == "const"))
    *_, (name, *args) = op.attrs["expr"]
    if name == "mul":
        return first(op), number
    return (first(op), 1 / number) if args == [0, 1] and number else None


def input_index(kind: str, name: str) -> int:
    """Where the operand of that name is among the op's inputs."""
    return [entry.rstrip("?*") for entry in OPS[kind].inputs].index(name)
