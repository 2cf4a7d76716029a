"""Runs a program step by step on two sides, each step on the same operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from npu_compiler import CompiledProgram
from npu_runtime.errors import InvalidValueError, format_error

from npu.comparison.groups import Group, group_ops
from npu.comparison.judge import Judge, parts_of
from npu.comparison.prepared import PreparedValues
from npu.comparison.report import Comparison
from npu.comparison.rows import Row
from npu.comparison.rule import relative_error
from npu.comparison.sides import Side, WeightSource

__all__ = ["Options", "Walk"]

Progress = Callable[[int, int, str], None]  # steps done, of how many, and the name of the next one
Results = dict[int, Any]


@dataclass
class Options:
    spread: bool = False
    progress: Progress | None = None
    observe: Callable[[Walk, Group, Row, Results, list[Results]], None] | None = None  # gets operands and results
    sources: Mapping[str, str] = field(default_factory=dict)  # the line of code of each node
    part: int | None = None
    together: tuple[str, ...] = ()  # ops that are one step, whatever the devices do


class Walk:
    """``source`` has the weights. The first side's results are the operands of later steps on both sides."""

    def __init__(
        self,
        program: CompiledProgram,
        sides: Sequence[Side],
        report: Comparison,
        options: Options,
        source: WeightSource,
    ) -> None:
        self.program, self.sides, self.report, self.options = program, sides, report, options
        self.opened = [side.open(program, source) for side in sides]
        self.groups = group_ops(program, [self._indices(), *(ops for opened in self.opened for ops in opened.fused)])
        self._judge = Judge(program, self.opened[1] if hasattr(self.opened[1], "exact") else None)
        self._prepared = PreparedValues(program, self.opened[0], source, self.groups)
        self._values: Results = {}  # of the first side
        self._others: Results = {}  # of the second, as it goes on with its own results
        self._last = {v: group.index for group in self.groups for v in (*group.reads, *group.writes)}
        self._written = {v: group.index for group in self.groups for v in group.writes}  # by then, all of it
        self._is_device = not hasattr(self.opened[1], "exact")

    def _indices(self) -> list[int]:
        index = {op["name"]: i for i, op in enumerate(self.program.data["main"])}
        return [index[name] for name in self.options.together if name in index]

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what the first side computes, by the names of outputs."""
        data = self.program.data
        self._values = {e["value"]: inputs[e["name"]] for e in data["inputs"] if e["name"] in inputs}
        self._others = dict(self._values)
        for group in self.groups:
            if self.options.progress is not None:
                self.options.progress(group.index, len(self.groups), group.name)
            if not self.step(group, self._prepared.take(group)):
                break
            self._prepared.release(group.index)
            self._release(group.index)
        return {o["name"]: self._values[o["value"]] for o in data["outputs"] if o["value"] in self._values}

    def run_one(self, names: Sequence[str], given: Results) -> None:
        """Only the step of these ops, on these operands."""
        group = next((g for g in self.groups if set(names) <= set(g.names)), None)
        if group is None:
            what, expected = "the program has no such step", "the names of ops that one step computes"
            raise InvalidValueError(format_error("compare", what, got=" + ".join(names), expected=expected))
        missing = [self.program.data["values"][v]["name"] for v in group.reads if v not in given]
        if missing:
            what, expected = f"operands of {group.name!r} are missing", "all that either device reads"
            raise InvalidValueError(format_error("compare", what, got=", ".join(missing), expected=expected))
        self._values = dict(given)
        self.step(group, {})

    def _release(self, done: int) -> None:
        kept = {o["value"] for o in self.program.data["outputs"]}
        if not self._is_device:  # what PyTorch may start from again
            kept |= {e["value"] for e in self.program.data["inputs"]}
        for store in (self._values, self._others):
            for value in [v for v in store if v not in kept and self._last.get(v, done) <= done]:
                del store[value]

    def step(self, group: Group, constants: Results) -> bool:
        """False if no side has a result, so that there is nothing to go on with."""
        given = {**constants, **self._readable(group, self._values)}
        row = self._row(group)
        outcomes = [self._run(side, group, given) for side in (0, 1)]
        results = [{} if isinstance(outcome, str) else outcome for outcome in outcomes]
        self._count(constants, results)
        failures = [outcome for outcome in outcomes if isinstance(outcome, str)]
        if not failures:
            self._judge.fill(row, group, given, *results)
        else:
            row.compared, row.beyond = False, len(failures) == 1
            names = [s.name for s, outcome in zip(self.sides, outcomes, strict=True) if isinstance(outcome, str)]
            row.reason = f"{' and '.join(names)}: {failures[0]}"
        if self.options.spread and len(failures) < 2:
            self._spread(group, row, constants, results)
        self.report.rows.append(row)
        if self.options.observe is not None:
            self.options.observe(self, group, row, given, results)
        if len(failures) == 2:
            self.report.stopped = f"both sides refuse {group.name!r}: {failures[0]}"
            return False
        self._values.update(results[0] or results[1])
        return True

    def _readable(self, group: Group, store: Results) -> Results:
        """What a step may read: of PyTorch, that is everything that has been computed."""
        if self._is_device:
            return {v: store[v] for v in (*group.reads, *group.writes) if v in store}
        return {v: a for v, a in store.items() if v in group.writes or self._written.get(v, -1) < group.index}

    def _run(self, side: int, group: Group, given: Results) -> Results | str:
        """Results by value; or, if the step refuses its operands, why."""
        try:
            return self.opened[side].run(group, given)
        except InvalidValueError as error:
            if not str(error).startswith("[run]"):
                raise
            return str(error).removeprefix("[run] ")

    def _spread(self, group: Group, row: Row, constants: Results, results: list[Results]) -> None:
        own = self._run(1, group, {**constants, **self._readable(group, {**self._values, **self._others})})
        if isinstance(own, str):
            row.spread = None
            self._others.update(results[0])
            return
        wanted = dict(parts_of(self.program, group, results[0] or results[1]))
        errors = [relative_error(part, wanted[v]) for v, part in parts_of(self.program, group, own) if part is not None]
        row.spread = max(errors, default=None)
        self._others.update(own)

    def _row(self, group: Group) -> Row:
        ops = [self.program.data["main"][i] for i in group.ops]
        nodes = list(dict.fromkeys(n for op in ops for n in op.get("nodes", [])))
        lines = dict.fromkeys(line for n in nodes if (line := self.options.sources.get(n)))
        return Row(
            group.name,
            [op["op"] for op in ops],
            nodes,
            list(dict.fromkeys(op["module"] for op in ops if op.get("module"))),
            list(lines),
            tuple(" ; ".join(opened.kernels(group)) for opened in self.opened),  # type: ignore[arg-type]
            part=self.options.part,
        )

    def _count(self, constants: Results, results: Sequence[Results]) -> None:
        stores = (constants, self._prepared.held, self._values, self._others, *results)
        arrays = {id(array): array.nbytes for store in stores for array in store.values()}
        self.report.peak_bytes = max(self.report.peak_bytes, sum(arrays.values()))
