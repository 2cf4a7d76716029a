"""Scaled dot product attention: right if padded keys are hidden from real queries, by a mask or as later ones."""

from __future__ import annotations

import math
from typing import Any

from npu.padding.calls import Call, rule
from npu.padding.extents import Axis
from npu.padding.ranges import Range, hull
from npu.padding.refusal import Unproven
from npu.padding.rules.elementwise import broadcast, operand_range
from npu.padding.rules.reduction import vanishes
from npu.padding.values import HEAD, PAD, REAL, Value, is_real

__all__: list[str] = []


class _Attention:
    def __init__(self, call: Call) -> None:
        self.call = call
        self.query, self.key, self.value = (call[name] for name in ("query", "key", "value"))
        self.mask: Value | None = call["attn_mask"]
        self.causal = bool(call["is_causal"])
        if call["dropout_p"]:
            raise Unproven("it draws random numbers")
        grouped = bool(call["enable_gqa"])
        rank = self.query.rank
        if any(v.rank != rank for v in (self.key, self.value)):
            raise Unproven("its operands have different numbers of dimensions")
        for v in (self.query, self.key, self.value):
            call.require_unpadded(v, [rank - 1], "the padded dimension is that of its products")
        if grouped:
            for v in (self.query, self.key, self.value):
                call.require_unpadded(v, [rank - 3], "the padded dimension is that of its heads")
        self.batch = list(range(rank - 3 if grouped else rank - 2))
        self.keys: Axis | None = self.key.axes[rank - 2]
        if self.value.axes[rank - 2] != self.keys or (self.keys is not None and not self.keys.is_simple):
            raise Unproven("its keys and values are padded at different places")

    def axes(self) -> list[Axis | None]:
        """Of the scores: batch, queries, keys."""
        rank = self.query.rank
        axes: list[Axis | None] = [None] * rank
        for operand in (self.query, self.key, self.value):
            for i in self.batch:
                if (axis := operand.axes[i]) is None:
                    continue
                if axes[i] not in (None, axis):
                    raise Unproven("it joins two dimensions whose padded parts are at different places")
                axes[i] = axis
        axes[rank - 2], axes[rank - 1] = self.query.axes[rank - 2], self.keys
        if self.mask is not None:
            known = Value((0,) * rank, "bool", tuple(axes), {})
            merged = broadcast([_one_where_open(known), self.mask])
            if any(axis not in (None, axes[i]) for i, axis in enumerate(merged)):
                raise Unproven("its mask is padded at another place")
        return axes

    def results(self) -> list[Value]:
        axes = self.axes()
        rank = len(axes)
        self.out_axes = [*axes[:-1], None]
        self.simple_rows = axes[rank - 2] == self.keys

        def ranges(cell: dict[int, str]) -> Range:
            kinds = HEAD + REAL + PAD if self.keys is not None else REAL
            return self._row(cell, {kind: self._score(cell, kind) for kind in kinds})

        return [self.call.result(self.out_axes, ranges)]

    def _operand(self, operand: Value, cell: dict[int, str], key: str | None) -> Range:
        rank = operand.rank
        at = {i: cell[i] for i in self.batch if operand.axes[i] is not None}
        if operand.axes[rank - 2] is not None:
            at[rank - 2] = cell[rank - 2] if key is None else key
        return operand.at(at)

    def _score(self, cell: dict[int, str], key: str) -> Range:
        """The range of the scores of a query and a kind of keys: -inf where these are hidden."""
        call, rank = self.call, self.query.rank
        dtype = self.query.dtype
        operands = [self._operand(self.query, cell, None), self._operand(self.key, cell, key)]
        score = call.row_range(*[(r, dtype) for r in operands])
        if self.causal and self.keys is not None:
            if self.simple_rows and key == PAD and cell[rank - 2] != PAD:
                return Range(-math.inf, -math.inf, score.nan)
            if key != HEAD or not self.simple_rows:
                score = hull([score, Range(-math.inf, -math.inf)])
        if self.mask is None:
            return score
        masked = operand_range(self.mask, {**cell, rank - 1: key}, rank)
        assert masked is not None
        if self.mask.dtype != "bool":
            both = Range(score.low + masked.low, score.high + masked.high, score.nan or masked.nan)
            return call.limits.fit(both, dtype)
        if masked.is_zero:
            return Range(-math.inf, -math.inf, score.nan)
        return score if masked.low == 1 else hull([score, Range(-math.inf, -math.inf)])

    def _row(self, cell: dict[int, str], scores: dict[str, Range]) -> Range:
        call = self.call
        values = [self._operand(self.value, cell, key) for key in scores]
        if is_real(cell) and self.keys is not None:
            gap = call.limits.gap(self.query.dtype)
            if not vanishes(scores[PAD], [scores[HEAD], scores[REAL]], gap):
                raise Unproven(_unhidden(call, self.mask, self.causal))
            if not values[-1].is_finite:
                raise Unproven(f"values of padded '{call.symbol}' may be infinite or NaN, and 0 times those is NaN")
        whole = hull(scores.values())
        empty = max(r.low for r in scores.values()) == -math.inf
        if whole.nan or whole.high == math.inf or (empty and not self._rows_are_safe()):
            return call.everything()
        return call.row_range(*[(r, self.value.dtype) for r in values])

    def _rows_are_safe(self) -> bool:
        """Whether a query that sees no key has a result of 0: it has for boolean masks."""
        return self.mask is None or self.mask.dtype == "bool"


def _one_where_open(known: Value) -> Value:
    shape: tuple[Any, ...] = tuple(1 if axis is None else 0 for axis in known.axes)
    return Value(shape, known.dtype, known.axes, {})


def _unhidden(call: Call, mask: Value | None, causal: bool) -> str:
    if mask is None and not causal:
        return f"it attends to padded '{call.symbol}', because it has no mask"
    return f"it attends to padded '{call.symbol}', which its mask is not known to hide from real positions"


@rule("scaled_dot_product_attention")
def _attention(call: Call) -> list[Value]:
    return _Attention(call).results()
