"""The report of a partition plan, as data and as text."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from .lowering import GETITEM
from .refusals import Refusal

__all__ = ["PartReport", "PlanReport", "short_name"]


@dataclass
class PartReport:
    partition_id: int
    target: str
    ops: dict[str, int]
    reasons: list[Refusal]
    inputs: list[str]  # that cross
    bytes_in: int
    outputs: list[str]
    bytes_out: int
    seconds: float  # estimated


@dataclass
class PlanReport:
    """``str()`` gives its text, and ``to_dict()`` data for JSON."""

    model: str
    strategy: str
    parts: list[PartReport] = field(default_factory=list)

    @property
    def borders(self) -> int:
        return max(0, len(self.parts) - 1)

    @property
    def bytes_crossing(self) -> int:
        return sum(part.bytes_in for part in self.parts)

    @property
    def seconds(self) -> float:
        return sum(part.seconds for part in self.parts)

    def nodes(self, target: str) -> int:
        return sum(sum(part.ops.values()) for part in self.parts if part.target == target)

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "borders": self.borders,
            "bytes_crossing": self.bytes_crossing,
            "seconds": self.seconds,
            "nodes": {target: self.nodes(target) for target in ("npu", "cpu")},
        }

    def __str__(self) -> str:
        head = (
            f"{self.model or 'the graph'}: {self.nodes('npu')} nodes on the device, {self.nodes('cpu')} on the host; "
            f"{_plural(len(self.parts), 'part')}, {_plural(self.borders, 'border')}, "
            f"{self.bytes_crossing:,} bytes cross; about {_time(self.seconds)} ({self.strategy})"
        )
        return "\n".join([head, *(line for part in self.parts for line in _lines(part))])


def _lines(part: PartReport) -> list[str]:
    where = "device" if part.target == "npu" else "host"
    count = sum(part.ops.values())
    lines = [f"{part.partition_id}  {where}, {_plural(count, 'node')}, about {_time(part.seconds)}"]
    lines.append(f"     ops: {', '.join(f'{op} x{n}' if n > 1 else op for op, n in _most(part))}")
    for name, tensors, size in (("in", part.inputs, part.bytes_in), ("out", part.outputs, part.bytes_out)):
        if tensors:
            listed = ", ".join(tensors[:4]) + (f" and {len(tensors) - 4} more" if len(tensors) > 4 else "")
            lines.append(f"     {name}: {size:,} bytes: {listed}")
    for reason in (reason for reason in part.reasons if reason.op != GETITEM):  # which follows the node it selects from
        first = f", first '{reason.node}'" if reason.count > 1 else f", '{reason.node}'"
        lines.append(f"     {reason.op}, {_plural(reason.count, 'time')}{first}: {reason.reason}")
    return lines


def _most(part: PartReport) -> list[tuple[str, int]]:
    return Counter({short_name(op): n for op, n in part.ops.items()}).most_common()


def short_name(op: str) -> str:
    return "getitem" if op == GETITEM else op.removeprefix("aten.")


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"
