"""A node as its rule sees it, and the table of rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from npu_base.size_rules import SizeRange
from npu_base.sizes import Size, SizeError, evaluate, free_names
from torch_ir.binding import Step, bind_operator
from torch_ir.ops.schemas import arguments_of, resolve_op
from torch_ir.parts import OpNode, TensorMeta

from npu.padding.extents import Axis, Extent, axis_of, least_of
from npu.padding.ranges import Limits, Range
from npu.padding.refusal import Unproven
from npu.padding.values import HEAD, PAD, REAL, Cell, Positions, Value

__all__ = ["RULES", "Call", "Padding", "rule"]

Rule = Callable[["Call"], Sequence[Value]]
RULES: dict[str, Rule] = {}
"""By the name of the operator, without its namespace and overload."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    def add(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return add


@dataclass(frozen=True)
class Padding:
    """``symbol`` is padded from any value of at least ``least`` to any of at most ``most``."""

    symbol: str
    least: int
    most: int
    limits: Limits = field(default_factory=Limits)
    sizes: Mapping[str, SizeRange] = field(default_factory=dict)
    """The other open sizes."""

    def axes_of(self, shape: Sequence[int | Size]) -> list[Axis | None]:
        """Of a tensor of which a prefix along each axis is real."""
        return [axis_of(extent, self.symbol) for extent in shape]

    def depends(self, value: Any) -> bool:
        """Whether a value has the padded size in it."""
        if isinstance(value, (list, tuple)):
            return any(map(self.depends, value))
        return isinstance(value, Size) and self.symbol in free_names(value.text)

    def largest(self, extent: Any) -> float:
        """The most that an extent can be in the padded run."""
        if not isinstance(extent, Size):
            return float(extent)
        names = free_names(extent.text)
        known = {name: size.most for name, size in self.sizes.items() if name in names}
        try:
            values = {**known, self.symbol: self.most}
            return float(evaluate(extent.text, values)) if None not in values.values() else math.inf  # type: ignore[arg-type]
        except SizeError:
            return math.inf

    def least_real(self, axis: Axis) -> int:
        """How many indices are real at least, which is from 1."""
        least = least_of(axis, self.symbol, self.least)
        if least is None or least < 1:
            raise Unproven(f"an extent, {axis.size}, may be 0")
        return least


_SHAPES = ("size", "shape", "sizes", "repeats", "dims", "end", "pad", "output_size")
"""Arguments that are shapes, or ends in them. Their rules follow where the padded size is in the result. As any other
number it would be that of the bucket."""


class Call:
    """A node with its operands by name: values for tensors, lists of them, numbers, and what else is given."""

    def __init__(self, node: OpNode, inputs: Sequence[Value], padding: Padding) -> None:
        self.node, self.inputs, self.padding = node, inputs, padding
        self.outputs: list[TensorMeta] = node.outputs
        self.limits, self.symbol = padding.limits, padding.symbol
        self.name = node.op_type.split(".")[1]
        self.step: Step = bind_operator(node, list(range(len(inputs))), node.attrs)
        self.arguments = self._arguments()
        for name, value in self.arguments.items():
            if name not in _SHAPES and padding.depends(value):
                raise Unproven(f"its argument '{name}' is a number that depends on '{padding.symbol}': {value}")

    def _arguments(self) -> dict[str, Any]:
        names = [a.name for a in arguments_of(resolve_op(self.node.op_type)) if not a.kwarg_only]
        given = dict(zip(names, self.step.args, strict=False))
        given.update({names[position]: self.inputs[slot] for position, slot in self.step.holes})
        for position, many in self.step.lists:
            given[names[position]] = [None if slot is None else self.inputs[slot] for slot in many]
        given.update(self.step.kwargs)
        given.update({name: self.inputs[slot] for name, slot in self.step.keywords})
        return given

    def __getitem__(self, name: str) -> Any:
        """An argument, which has the padded size in it only if it is one of ``_SHAPES``."""
        return self.arguments.get(name)

    def dims(self, name: str = "dim", of: Value | None = None) -> list[int]:
        """An argument that says dimensions, as a list; all of them if it is None or empty."""
        value = of if of is not None else self["self"]
        given = self[name]
        if given is None or given == []:
            return list(range(value.rank))
        return [value.axis(d) for d in (given if isinstance(given, (list, tuple)) else [given])]

    def result(self, axes: Sequence[Axis | None], ranges: Callable[[dict[int, str]], Range], index: int = 0) -> Value:
        meta = self.outputs[index]
        fit = self.limits.fit
        return self.checked(Value.of(meta, axes, lambda cell: fit(ranges(cell), meta.dtype)))

    def checked(self, value: Value) -> Value:
        """Whether the axes that a rule has made are those of the graph."""
        for extent, axis in zip(value.shape, value.axes, strict=True):
            if axis is not None:
                self.padding.least_real(axis)
                if axis.outer.of_symbol(self.symbol) or axis.inner.of_symbol(self.symbol):
                    raise Unproven(f"it merges two padded dimensions: {extent}")
            traced = Extent.of(extent)
            if (axis.extent != traced) if axis is not None else traced.of_symbol(self.symbol):
                raise Unproven(f"where '{self.symbol}' is in its result, {list(value.shape)}, is not known")
        return value

    def everything(self, index: int = 0) -> Range:
        return self.limits.all_of(self.outputs[index].dtype)

    def ordinary(self, index: int = 0) -> Range:
        return self.limits.ordinary(self.outputs[index].dtype)

    def row_range(self, *ranges: tuple[Range, str], index: int = 0) -> Range:
        """Of arithmetic that is defined for all ordinary numbers."""
        if all(self.limits.is_ordinary(r, dtype) for r, dtype in ranges):
            return self.ordinary(index)
        return self.everything(index)

    def require_unpadded(self, value: Value, dims: Sequence[int], why: str) -> None:
        if any(value.axes[d] is not None for d in dims):
            raise Unproven(why)

    def position_range(self, value: Value, cell: Cell) -> Range | None:
        """What is known from the indices that the elements are."""
        positions = value.positions
        if positions is None:
            return None
        r = self._difference(value, positions, cell)
        return r and Range(r.low + positions.offset, r.high + positions.offset)

    def _difference(self, value: Value, positions: Positions, cell: Cell) -> Range | None:
        terms = positions.terms
        if not terms:
            return Range(0, 0)
        axes = [value.axes[a] for a, _ in terms]
        if any(axis is None or not axis.is_simple for axis in axes):
            return None
        if len(terms) == 1:
            ((a, factor),) = terms
            most = 0 if cell[a] == HEAD else self.padding.largest(value.shape[a]) - 1
            least = self.padding.least_real(axes[0]) if cell[a] == PAD else 0  # type: ignore[arg-type]
            return Range(least, most) if factor == 1 else (Range(-most, -least) if factor == -1 else None)
        if len(terms) != 2 or axes[0] != axes[1] or {f for _, f in terms} != {1, -1}:
            return None
        plus, minus = sorted(terms, key=lambda term: -term[1])
        return _LESS[cell[plus[0]], cell[minus[0]]]


_UP, _DOWN, _BOTH = Range(0, math.inf), Range(-math.inf, 0), Range(-math.inf, math.inf)
_LESS = {
    (PAD, REAL): Range(1, math.inf), (PAD, HEAD): Range(1, math.inf), (REAL, PAD): Range(-math.inf, -1),
    (HEAD, PAD): Range(-math.inf, -1), (HEAD, REAL): _DOWN, (REAL, HEAD): _UP, (HEAD, HEAD): Range(0, 0),
    (REAL, REAL): _BOTH, (PAD, PAD): _BOTH,
}  # fmt: skip
"""An index of the first kind less one of the second, along axes with the same real part."""


def on_scalars(call: Call, operands: Mapping[str, tuple[Any, str]]) -> Any:
    """What the operator itself gives for these numbers (and their dtypes), by the names of its tensor arguments."""
    names = [a.name for a in arguments_of(resolve_op(call.node.op_type)) if not a.kwarg_only]
    step = call.step
    args, kwargs = list(step.args), dict(step.kwargs)
    for name, (number, dtype) in operands.items():
        tensor = torch.tensor(number, dtype=getattr(torch, dtype))
        if name in names:
            args[names.index(name)] = tensor
        else:
            kwargs[name] = tensor
    with torch.no_grad():
        return step.fn(*args, **kwargs).item()
