"""Products, with epilogues or without, and attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from npu_base.quantization import MULTIPLES, OFFSETS, Scheme
from npu_compiler import reference
from npu_compiler.opset import OPS

from .expressions import Expression
from .making import Making
from .values import DTYPES, FLOATS, Array, Unsuitable, View, digits, finite, sums_exactly


def dequantize(m: Making) -> None:
    shape = (*m.shape(), m.c.pick((7, 1, 8, 16, 33)))
    attrs, parts, largest = _quantized(m, shape)
    m.add("dequantize", parts, [(m.c.pick(FLOATS), shape)], attrs, exact=False, terms=largest * math.prod(shape) ** 0.5)


def _quantized(m: Making, shape: tuple[int, ...]) -> tuple[dict[str, Any], list[View | None], float]:
    """What stands for numbers of this shape: attributes, integers, scales, offsets, units; and how large they are."""
    c = m.c
    group = c.pick((8, 0, 1, 5, 32, 64))
    unit = group * c.pick((0, 1, 3, 8))
    scheme = Scheme(c.pick((4, 8, 2, 3, 6)), group, c.pick(OFFSETS), c.one_in(2), unit=unit)
    groups = (*shape[:-1], scheme.groups(shape[-1]))
    q = m.view_of(("uint8",), scheme.stored_shape(shape))
    dtypes, values = ((MULTIPLES,), None) if unit else (FLOATS, finite)
    scales = m.view_of(dtypes, groups, values=values)
    offsets = m.view_of(dtypes, groups, values=values) if scheme.offset != "none" else None
    units = m.view_of(FLOATS, (*shape[:-1], scheme.units(shape[-1])), values=finite) if unit else None
    parts = [view for view in (scales, offsets, units) if view is not None]
    if not finite(*(view.array for view in parts)):
        raise Unsuitable
    times = digits(units.array)[0] if units else 1.0
    shift = times * digits(offsets.array)[0] if offsets else 0.0
    largest = times * digits(scales.array)[0] * (2.0**scheme.bits + shift) + shift
    attrs = {
        "bits": scheme.bits, "group": scheme.group, "offset": scheme.offset, "signed_integers": scheme.signed,
        "unit": unit,
    }  # fmt: skip
    return attrs, [q, scales, offsets, units], largest


def _quantized_matmul(m: Making) -> None:
    """Without an epilogue, so that its result has the dtype to which weights may be rounded."""
    c = m.c
    rank, rows, depth, columns = (
        c.int(2, 3),
        c.pick((3, 1, 8, 9, 17)),
        c.pick((16, 1, 5, 32, 70)),
        c.pick((3, 1, 9, 17)),
    )
    batch = tuple(c.int(1, 3) for _ in range(rank - 2))
    a = m.view_of((c.pick(FLOATS),), (*batch, rows, depth), values=finite)
    attrs, (q, *parts), largest = _quantized(m, (columns, depth))
    if not finite(a.array):
        raise Unsuitable
    m.add("matmul", [a, q, None, *parts], [(a.dtype, (*batch, rows, columns))], attrs, exact=False,
          terms=depth * digits(a.array)[0] * largest)  # fmt: skip


def matmul(m: Making) -> None:
    c = m.c
    if c.one_in(3):
        _quantized_matmul(m)
        return
    dtype = c.pick(FLOATS)
    rank, (rows, depth, columns) = c.int(2, 4), (c.pick((3, 1, 2, 5, 9, 17)) for _ in range(3))
    batch = tuple(c.int(1, 3) for _ in range(rank - 2))
    halves = c.one_in(4)
    wide = columns * 2 if halves else columns
    a = m.view_of((dtype,), (*batch, rows, depth), values=finite)
    b = m.view_of((dtype,), (*batch, depth, wide), values=finite)
    bias = m.view_of((dtype, "float32"), (wide,), values=finite) if c.one_in(2) else None
    if not finite(a.array, b.array, *([bias.array] if bias else [])):
        raise Unsuitable
    if bias is not None:  # one for all rows
        bias = View(bias.value, (*batch, rows, wide), (*[0] * (rank - 1), *bias.strides), bias.offset)
    product(m, "matmul", [a, b, bias], (*batch, rows, columns), {"halves": halves}, depth)


def product(
    m: Making, kind: str, inputs: list[View | None], shape: tuple[int, ...], attrs: dict[str, Any], depth: int
) -> None:
    """With an epilogue or without."""
    c, (a, b, bias) = m.c, inputs
    assert a is not None
    assert b is not None
    exact = sums_exactly(depth + 1, a.array, b.array) and (bias is None or sums_exactly(2, bias.array, bits=12))
    dtype, sums = a.dtype, 2 if attrs.get("halves") else 1
    if sums == 2 or c.one_in(2):
        room = np.zeros((*shape[:-1], shape[-1] * sums))
        plain = {name: value for name, value in attrs.items() if name != "halves"}
        total = reference.OPS[kind]([None if v is None else v.array for v in inputs], [room], plain)
        extras = [m.view_of(DTYPES, shape) for _ in range(c.int(0, 2))]
        operands = [*np.split(total, sums, -1), *(x.array for x in extras)]
        expression = Expression(c, operands, [exact] * sums + [True] * len(extras))
        if exact:
            expression.grow(4)
        if not expression.ends_as("f"):
            raise Unsuitable
        exact, dtype = expression.exact[-1], c.pick(FLOATS)
        attrs["epilogue"] = expression.steps
        inputs = [*inputs, *[None] * (OPS[kind].expr_operand - len(inputs)), *extras]
    terms = depth * digits(a.array)[0] * digits(b.array)[0] + (digits(bias.array)[0] if bias is not None else 0.0)
    m.add(kind, inputs, [(dtype, shape)], attrs, exact, terms=terms)


def attention(m: Making) -> None:
    c = m.c
    dtype = c.pick(FLOATS)
    n, groups, shared, s = c.int(1, 2), c.int(1, 2), c.pick((1, 3)), c.pick((3, 1, 7))
    t, d, e = c.pick((5, 1, 9, 18)), c.pick((4, 1, 8, 5)), c.pick((4, 1, 8))
    q = m.view_of((dtype,), (n, groups * shared, s, d), values=finite)
    stored = "int8" if dtype == "float32" and c.one_in(3) else dtype  # others may be rounded to the dtype of q
    k = m.view_of((stored,), (n, groups, t, d), values=finite)
    v = m.view_of((stored,), (n, groups, t, e), values=finite)
    scales = [m.view_of(("float32",), (n, groups, t), values=finite) for _ in range(2 if stored == "int8" else 0)]
    keys, values = (_scaled(x, *s) for x, s in zip((k, v), ([s] for s in scales) if scales else ([], []), strict=True))
    if not finite(q.array, keys, values) or digits(q.array)[0] * digits(keys)[0] * d > 100:
        raise Unsuitable
    attrs: dict[str, Any] = {"scale": c.pick((1.0, 0.5, 0.25)), "masked_rows": c.pick(("zero", "nan"))}
    inputs: list[View | None] = [q, k, v]
    kind = c.int(0, 2)
    if kind == 1:
        attrs["causal"] = True
    elif kind == 2:
        mask = m.view_of(("bool", "float32", dtype), (n, groups * shared, s, t), values=_masks)
        if not _masks(mask.array):
            raise Unsuitable
        inputs.append(mask)
    if scales:
        inputs += [*[None] * (4 - len(inputs)), *scales]
    m.add("attention", inputs, [(dtype, (n, groups * shared, s, e))], attrs, exact=False)


def _scaled(rows: View, *scales: View) -> Array:
    return rows.array * scales[0].array[..., None] if scales else rows.array


def _masks(x: Array) -> bool:
    wide = x.astype(np.float64)
    return digits(x)[0] < 50 and not np.isnan(wide).any() and not np.isposinf(wide).any()
