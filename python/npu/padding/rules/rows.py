"""Operators that work over some dimensions and treat each index of the others alike: right if those are not padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from npu.padding.calls import Call, rule
from npu.padding.extents import Axis, axis_of
from npu.padding.ranges import Range
from npu.padding.refusal import Unproven
from npu.padding.values import PAD, Value

__all__ = ["OVER"]

Over = Callable[[Call, Value], list[int]]


def _all_but(first: int) -> Over:
    return lambda _, value: list(range(first, value.rank))


def _last(count: int) -> Over:
    return lambda _, value: list(range(value.rank - count, value.rank))


def _along(name: str = "dim", default: int = -1) -> Over:
    def dims(call: Call, value: Value) -> list[int]:
        given = call.arguments.get(name, default)
        return [value.axis(d) for d in (given if isinstance(given, (list, tuple)) else [given])]

    return dims


def _normalized(call: Call, value: Value) -> list[int]:
    return list(range(value.rank - len(call["normalized_shape"]), value.rank))


def _spatial(count: int) -> Over:
    """Batch and channels may be absent."""
    return lambda _, value: list(range(value.rank - count, value.rank))


_SAME, _REGULAR, _UNKNOWN = "same", "regular", "unknown"
"""Results are elements of the operand, arithmetic of it that is defined for ordinary numbers, or anything."""
OVER: dict[str, tuple[Over, str]] = {
    **dict.fromkeys(("layer_norm", "rms_norm", "_fused_rms_norm"), (_normalized, _REGULAR)),
    "group_norm": (_all_but(1), _REGULAR),
    **{f"conv_transpose{n}d": (_all_but(1), _REGULAR) for n in (1, 2, 3)},
    **{f"max_pool{n}d": (_spatial(n), _UNKNOWN) for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": (_spatial(n), _UNKNOWN) for n in (1, 2, 3)},
    **{f"avg_pool{n}d": (_spatial(n), _REGULAR) for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": (_spatial(n), _REGULAR) for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": (_spatial(n), _SAME) for n in (1, 2, 3)},
    **{f"upsample_nearest{n}d": (_spatial(n), _SAME) for n in (1, 2, 3)},
    "upsample_linear1d": (_spatial(1), _REGULAR),
    "upsample_bilinear2d": (_spatial(2), _REGULAR),
    "upsample_bicubic2d": (_spatial(2), _REGULAR),
    "pixel_shuffle": (_last(3), _SAME),
    "pixel_unshuffle": (_last(3), _SAME),
    "flip": (_along("dims"), _SAME),
    "roll": (_along("dims", 0), _SAME),
    "sort": (_along(), _SAME),
    "argsort": (_along(), _UNKNOWN),
    "topk": (_along(), _SAME),
    "glu": (_along(), _REGULAR),
}
"""By operator, the dimensions that it works over, and what its results are."""
_BATCHED = ("conv_transpose", "group_norm")


def _over(call: Call) -> list[Value]:
    over, kind = OVER[call.name]
    value, *others = call.inputs
    if any(other.is_padded for other in others):
        raise Unproven("another operand than the first is padded")
    if call.name.startswith(_BATCHED) and value.rank != _rank_with_batch(call, value):
        raise Unproven("it has no batch")
    if call.name == "roll" and not call["dims"]:
        raise Unproven("it turns all elements as one row")
    dims = over(call, value)
    call.require_unpadded(value, dims, f"it works over the padded dimension, and mixes padded '{call.symbol}' in")

    def result(index: int) -> Value:
        def ranges(cell: dict[int, str]) -> Range:
            r = value.at(cell)
            if kind == _SAME and index == 0:
                return r
            return _arithmetic(call, value, r, others) if kind == _REGULAR and index == 0 else call.everything(index)

        axes: list[Axis | None] = [None if i in dims else axis for i, axis in enumerate(value.axes)]
        return call.result(axes, ranges, index)

    return [result(i) for i in range(len(call.outputs))]


def _arithmetic(call: Call, value: Value, r: Range, others: Sequence[Value]) -> Range:
    """Of ``r``, numbers of ``value``, with all numbers of the other operands."""
    operands = [(r, value.dtype), *((o.whole(), o.dtype) for o in others)]
    return call.row_range(*operands) if call["eps"] != 0 else call.everything()


def _rank_with_batch(call: Call, value: Value) -> int:
    if call.name == "group_norm":
        return value.rank if value.rank > 2 else 3
    weight: Any = call.arguments["weight"]
    return int(weight.rank)


for _name in OVER:
    rule(_name)(_over)


@rule("batch_norm", "native_batch_norm", "_native_batch_norm_legit_no_training", "instance_norm")
def _batch_norm(call: Call) -> list[Value]:
    """With the running statistics, it is elementwise."""
    value: Value = call["input"]
    by_name = {"batch_norm": "training", "native_batch_norm": "training", "instance_norm": "use_input_stats"}
    if call.name in by_name and call[by_name[call.name]]:
        over = list(range(2, value.rank)) if call.name == "instance_norm" else list(range(value.rank))
        over = [d for d in over if d != 1]
        call.require_unpadded(value, over, f"it takes statistics over padded '{call.symbol}'")
    others = [v for v in call.inputs if v is not value]
    if any(other.is_padded for other in others):
        raise Unproven("another operand than the first is padded")
    result = call.result(value.axes, lambda cell: _arithmetic(call, value, value.at(cell), others))
    rest = [call.result([None] * len(m.shape), lambda _: call.everything(), i) for i, m in enumerate(call.outputs) if i]
    return [result, *rest]


@rule("conv1d", "conv2d", "conv3d", "convolution")
def _convolution(call: Call) -> list[Value]:
    """Along a padded dimension it is right if it reads no zeros beyond the end, or if padding is 0 as these are."""
    value, weight, padding = call["input"], call["weight"], call["padding"]
    if call["transposed"] or value.rank != weight.rank or any(other.is_padded for other in call.inputs[1:]):
        raise Unproven("it is transposed or has no batch, or its weight is padded")
    call.require_unpadded(value, [1], "the padded dimension is that of its channels")
    spatial = [d for d in value.padded if d > 1]
    for d in spatial:
        amount = padding if isinstance(padding, str) else padding[d - 2 if len(padding) > 1 else 0]
        if amount not in (0, "valid") and not value.at({d: PAD}).is_zero:
            raise Unproven(f"it mixes padded '{call.symbol}' in, which is not known to be 0 as beyond the end")
        axis = value.axes[d]
        if axis is None or not axis.is_simple:
            raise Unproven("it runs along a merged dimension")
    out = [axis_of(n, call.symbol) for n in call.outputs[0].shape[2:]]

    def ranges(cell: dict[int, str]) -> Range:
        batch = {0: cell[0]} if 0 in cell else {}
        r = value.at(batch) if spatial else value.at(cell)
        return _arithmetic(call, value, r, call.inputs[1:])

    return [call.result([value.axes[0], None, *out], ranges)]
