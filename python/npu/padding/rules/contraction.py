"""Sums of products: right over a padded dimension if one operand is 0 in its padding and the other one finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npu.padding.calls import Call, rule
from npu.padding.extents import Axis
from npu.padding.ranges import Range, constant
from npu.padding.refusal import Unproven
from npu.padding.values import HEAD, PAD, REAL, Value, is_real

__all__: list[str] = []

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _axes_by_letter(operands: list[tuple[Value, str]]) -> dict[str, Axis | None]:
    """An extent of 1 is repeated."""
    axes: dict[str, Axis | None] = {}
    for value, letters in operands:
        for letter, axis, extent in zip(letters, value.axes, value.shape, strict=True):
            known = axes.get(letter)
            if axis is not None and known is not None and axis != known:
                raise Unproven("it joins two dimensions whose padded parts are at different places")
            if extent != 1 or letter not in axes:
                axes[letter] = axis or known
    for value, letters in operands:
        for letter, axis, extent in zip(letters, value.axes, value.shape, strict=True):
            if axes[letter] is not None and axis is None and extent != 1:
                raise Unproven(f"it joins a padded dimension with one of {extent}")
    return axes


def _range_at(value: Value, letters: str, cell: Mapping[str, str]) -> Range:
    return value.at({i: cell[letters[i]] for i in value.padded})


def _contraction(
    call: Call, left: tuple[Value, str], right: tuple[Value, str], out: str, added: Value | None = None
) -> list[Value]:
    """``left`` and ``right`` are tensors with a letter for each dimension, as in ``einsum``."""
    axes = _axes_by_letter([left, right])
    summed = [letter for letter in axes if letter not in out]
    padded = [letter for letter in summed if axes[letter] is not None]
    if len(padded) > 1:
        raise Unproven("it sums over more than one padded dimension")
    out_axes = [axes[letter] for letter in out]
    dtypes = (left[0].dtype, right[0].dtype)

    def ranges(cell: dict[int, str]) -> Range:
        named = {out[i]: kind for i, kind in cell.items()}
        pairs = []
        for kind in HEAD + REAL + PAD if padded else REAL:
            at = {**named, **({padded[0]: kind} if padded else {})}
            a, b = _range_at(*left, at), _range_at(*right, at)
            pairs.append((a, b))
            if kind == PAD and is_real(cell) and not _is_nothing(a, b):
                raise Unproven(_reason(call, a, b))
        if all(_is_nothing(a, b) for a, b in pairs):
            total = constant(0)
        else:
            total = call.row_range(*[(r, dtype) for pair in pairs for r, dtype in zip(pair, dtypes, strict=True)])
        if added is None:
            return total
        shift = len(out) - added.rank
        more = added.at({i: cell[i + shift] for i in added.padded})
        return more if total.is_zero else call.row_range((total, call.outputs[0].dtype), (more, added.dtype))

    return [call.result(out_axes, ranges)]


def _is_nothing(a: Range, b: Range) -> bool:
    return (a.is_zero and b.is_finite) or (b.is_zero and a.is_finite)


def _reason(call: Call, a: Range, b: Range) -> str:
    if a.is_zero or b.is_zero:
        return f"it sums over padded '{call.symbol}', where 0 is multiplied with numbers that may be infinite or NaN"
    return f"it sums over padded '{call.symbol}', and what it multiplies there is not known to be 0"


def _matmul(call: Call, a: Value, b: Value, added: Value | None = None) -> list[Value]:
    if added is not None and any(added.axes):
        raise Unproven("it adds a padded tensor to a product")
    batch = _LETTERS[: max(a.rank, b.rank, 2) - 2]
    left = "x" if a.rank == 1 else batch[len(batch) - (a.rank - 2) :] + "wx"
    right = "x" if b.rank == 1 else batch[len(batch) - (b.rank - 2) :] + "xy"
    out = batch + ("w" if a.rank > 1 else "") + ("y" if b.rank > 1 else "")
    return _contraction(call, (a, left), (b, right), out, added)


@rule("matmul", "mm", "bmm", "mv", "dot", "inner", "vdot")
def _product(call: Call) -> list[Value]:
    a, b = list(call.inputs)
    if call.name == "inner" and b.rank > 1:
        raise Unproven("this operator is not known")
    return _matmul(call, a, b)


@rule("addmm", "baddbmm", "addmv")
def _added_product(call: Call) -> list[Value]:
    added, a, b = call.inputs
    for name in ("alpha", "beta"):
        if call[name] not in (None, 1):
            raise Unproven("it scales what it adds")
    return _matmul(call, a, b, added)


@rule("linear")
def _linear(call: Call) -> list[Value]:
    value, weight, bias = call["input"], call["weight"], call["bias"]
    if weight.rank != 2 or weight.is_padded or (bias is not None and bias.is_padded):
        raise Unproven("its weight depends on a padded size")
    letters = _LETTERS[: value.rank - 1]
    return _contraction(call, (value, letters + "x"), (weight, "yx"), letters + "y", bias)


@rule("einsum")
def _einsum(call: Call) -> list[Value]:
    equation: Any = call["equation"]
    operands: list[Value] = call["tensors"]
    inputs, _, out = equation.replace(" ", "").partition("->")
    letters = inputs.split(",")
    simple = "->" in equation and "." not in equation and len(operands) == 2
    if not simple or any(len(set(part)) != len(part) for part in (*letters, out)):
        raise Unproven("only einsum of two tensors with a result that is written out is known")
    return _contraction(call, (operands[0], letters[0]), (operands[1], letters[1]), out)
