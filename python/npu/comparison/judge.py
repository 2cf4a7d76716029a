"""Whether the results of a step are close enough, and how far off they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from npu_compiler import CompiledProgram
from npu_compiler.reference import Interpreter

from npu.comparison.groups import Group, operand_value
from npu.comparison.rows import NOTHING_FINITE, Row
from npu.comparison.rule import EPSILON, Figures, allowed, allowed_in_step, measure, relative_error

__all__ = ["Judge", "parts_of"]

Arrays = Mapping[int, Any]


@dataclass
class _Verdict:
    value: int
    figures: Figures
    errors: tuple[float, float] | None = None
    allowed: float | None = None
    beyond: bool = False
    empty: bool = False

    @property
    def rank(self) -> tuple[bool, float]:
        return self.beyond, self.figures.relative


def parts_of(program: CompiledProgram, group: Group, arrays: Arrays) -> list[tuple[int, Any]]:
    """What the group writes of its results, as views of arrays by value."""
    views = Interpreter(program)
    views.values = {v: np.ascontiguousarray(array).reshape(-1) for v, array in arrays.items()}
    parts = []
    for i in group.ops:
        for operand in program.data["main"][i]["out"]:
            if operand is not None and operand_value(operand) in group.results:
                value = operand_value(operand)
                parts.append((value, views.view(operand) if value in arrays else None))
    return parts


class Judge:
    """Takes float64 for the truth where two results differ by more than rounding explains.

    ``reference`` is the second side if it has exact results of its own, as PyTorch does. Then only the first side is
    judged, and the second one's own error is what the rule measures it by. Between devices, either may be wrong.
    """

    def __init__(self, program: CompiledProgram, reference: Any = None) -> None:
        self._program, self._reference = program, reference

    def fill(self, row: Row, group: Group, given: Arrays, first: Arrays, second: Arrays) -> None:
        exact: list[Any] = []  # made once it is needed
        verdicts = []
        pairs = zip(parts_of(self._program, group, first), parts_of(self._program, group, second), strict=True)
        for n, ((value, a), (_, b)) in enumerate(pairs):
            if a is None or b is None:
                continue
            verdict = self._closeness(value, a, b)
            if verdict is None:
                exact = exact or self._exact(group, given)
                verdict = self._judge(value, a, b, exact[n])
            verdicts.append(verdict)
        if not verdicts:
            row.compared, row.reason = False, "no tensor of the IR, but a part of what the next steps read"
            return
        self._write(row, max(verdicts, key=lambda v: v.rank))

    def _write(self, row: Row, worst: _Verdict) -> None:
        meta = self._program.data["values"][worst.value]
        row.tensor, row.dtype, row.shape = meta["name"], meta["dtype"], meta["shape"]
        row.absolute, row.relative, row.snr = worst.figures.absolute, worst.figures.relative, worst.figures.snr
        row.errors, row.allowed, row.beyond = worst.errors, worst.allowed, worst.beyond
        row.reason = worst.figures.reason or (NOTHING_FINITE if worst.empty else "")

    def _figures(self, a: Any, b: Any) -> Figures:
        return measure(b, a) if self._reference is None else measure(a, b)

    def _closeness(self, value: int, a: Any, b: Any) -> _Verdict | None:
        """What two results alone decide; None if it takes a third one."""
        figures = self._figures(a, b)
        if a.dtype.name not in EPSILON or figures.reason:
            return _Verdict(value, figures, beyond=bool(figures.reason))
        if figures.relative <= allowed(0, a.dtype.name):
            empty = bool(a.size) and not np.isfinite(a.astype(np.float64)).any()
            return _Verdict(value, figures, empty=empty)
        return None

    def _judge(self, value: int, a: Any, b: Any, exact: Any) -> _Verdict:
        errors = (relative_error(a, exact), relative_error(b, exact))
        judged, own = errors if self._reference is not None else (max(errors), min(errors))
        bound = allowed_in_step(own, a.dtype.name)
        return _Verdict(value, self._figures(a, b), errors, bound, beyond=judged > bound)

    def _exact(self, group: Group, given: Arrays) -> list[Any]:
        if self._reference is not None:
            return [part for _, part in parts_of(self._program, group, self._reference.exact(group, given))]
        run = Interpreter(self._program, rounded=False)
        run.values = {v: np.ascontiguousarray(array).reshape(-1) for v, array in given.items()}
        for value in group.writes:  # parts of it that earlier steps wrote
            if value in run.values:
                meta = given[value]
                run.values[value] = meta.astype(np.float64 if meta.dtype.name in EPSILON else meta.dtype).reshape(-1)
        with np.errstate(all="ignore"):
            for i in group.ops:
                run.step(self._program.data["main"][i])
            return [part for _, part in parts_of(self._program, group, {v: run.view(v) for v in group.results})]
