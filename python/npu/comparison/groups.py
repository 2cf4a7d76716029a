"""The steps to compare: groups of ops that no device computes apart from each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from npu_compiler import CompiledProgram

__all__ = ["Group", "group_ops", "operand_value", "values_of"]


@dataclass
class Group:
    """Some ops of ``main``, by their index, and the values that they exchange with the rest of the program."""

    index: int
    ops: list[int]
    names: list[str]
    reads: list[int] = field(default_factory=list)  # from outside
    writes: list[int] = field(default_factory=list)  # all, in order
    results: list[int] = field(default_factory=list)  # those that others read, and outputs of the program

    @property
    def name(self) -> str:
        return " + ".join(self.names)


def operand_value(operand: Any) -> int:
    return operand if isinstance(operand, int) else operand[0]


def values_of(operands: Iterable[Any]) -> list[int]:
    """The values of operands, each once; an operand that is absent is none."""
    return list(dict.fromkeys(operand_value(o) for o in operands if o is not None))


def group_ops(program: CompiledProgram, fused: Iterable[Sequence[int]]) -> list[Group]:
    """``fused`` are the ops that one kernel computes, of each device."""
    ops = program.data["main"]
    leader = list(range(len(ops)))

    def find(i: int) -> int:
        while leader[i] != i:
            i = leader[i]
        return i

    for together in fused:
        for i in together:
            a, b = sorted((find(together[0]), find(i)))
            leader[a] = b  # the last of them: what is fused into an op is read by nothing else
    members: dict[int, list[int]] = {}
    for i in range(len(ops)):
        members.setdefault(find(i), []).append(i)
    groups = [
        Group(g, members[last], [ops[i]["name"] for i in members[last]]) for g, last in enumerate(sorted(members))
    ]
    _find_values(program, groups)
    return groups


def _find_values(program: CompiledProgram, groups: list[Group]) -> None:
    ops = program.data["main"]
    returned = {o["value"] for o in program.data["outputs"]}
    readers: dict[int, set[int]] = {}
    for g, group in enumerate(groups):
        for i in group.ops:
            for value in values_of(ops[i]["in"]):
                readers.setdefault(value, set()).add(g)
    for g, group in enumerate(groups):
        group.writes = values_of(o for i in group.ops for o in ops[i]["out"])
        group.reads = [v for v in values_of(o for i in group.ops for o in ops[i]["in"]) if v not in group.writes]
        group.results = [v for v in group.writes if v in returned or readers.get(v, set()) - {g}]
        group.results = group.results or group.writes  # of an op that nothing reads
