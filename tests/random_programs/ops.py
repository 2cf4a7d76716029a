"""An op of each kind at random, added to a program."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .declared import declared
from .expressions import Expression
from .making import Making
from .products import attention, dequantize, matmul
from .spatial import SPATIAL
from .values import (
    DTYPES,
    FLOATS,
    INTEGERS,
    SIGNIFICANT,
    Unsuitable,
    Value,
    View,
    digits,
    finite,
    sums_exactly,
    view_of_shape,
    whole,
)  # fmt: skip


def result_dtypes(kind: str) -> tuple[str, ...]:
    return {"f": FLOATS, "i": INTEGERS, "b": ("bool",)}[kind]


def _map(m: Making) -> None:
    c = m.c
    views = [m.view()] if not c.one_in(12) else []
    shape = views[0].shape if views else m.shape()
    views += [m.view_of(DTYPES, shape) for _ in range(c.int(0, 3))] if views else []
    expression = Expression(c, [v.array for v in views], [True] * len(views))
    expression.grow(6)
    if not expression.steps:
        number = c.pick((1.0, 0.0, -2.5))
        expression.add(["const", number, "f"], "f")
    kind = expression.classes[-1]
    m.add("map", views, [(c.pick(result_dtypes(kind)), shape)], {"expr": expression.steps}, expression.exact[-1])


def _reduce(m: Making) -> None:
    c = m.c
    x = m.view()
    axes = sorted(d for d in range(len(x.shape)) if c.one_in(2))
    kinds = ["sum", "max", "min", "any", "all", "prod"]
    kinds += ["mean", "var"] if x.dtype in FLOATS else []
    kinds += ["argmax", "argmin"] if len(axes) == 1 else []
    kind = c.pick(kinds)
    count = math.prod(x.shape[d] for d in axes)
    if kind in ("max", "min", "argmax", "argmin") and not count:
        raise Unsuitable
    if kind in ("argmax", "argmin") and digits(x.array)[0] > 2.0**53:
        raise Unsuitable  # the reference compares them as float64
    exact = True
    if x.dtype in FLOATS and kind in ("sum", "mean", "prod", "var"):
        exact = kind in ("sum", "mean") and sums_exactly(count, x.array) and (kind == "sum" or count in (1, 2, 4, 8))
        if not finite(x.array) or (kind == "prod" and not _small_product(x, count)):
            raise Unsuitable
    dtype = x.dtype
    if kind in ("any", "all"):
        dtype = "bool"
    elif kind in ("argmax", "argmin") or (kind in ("sum", "prod") and x.dtype not in FLOATS):
        dtype = "int64"
    attrs: dict[str, Any] = {"kind": kind, "axes": axes}
    if kind == "var":
        attrs["correction"] = float(c.int(0, 1))
        if count - attrs["correction"] <= 0:
            raise Unsuitable
    m.add("reduce", [x], [(dtype, [1 if d in axes else n for d, n in enumerate(x.shape)])], attrs, exact)


def _small_product(x: View, count: int) -> bool:
    peak, grain = digits(x.array)
    return peak**count < 1e30 and min(grain, 1.0) ** count > 1e-30


def _scan(m: Making) -> None:
    x = m.view(low=1)
    axis, kind = m.c.int(0, len(x.shape) - 1), m.c.pick(("sum", "prod"))
    if x.dtype in FLOATS and not (kind == "sum" and sums_exactly(x.shape[axis], x.array, bits=SIGNIFICANT[x.dtype])):
        raise Unsuitable
    m.add("scan", [x], [(x.dtype if x.dtype in FLOATS else "int64", x.shape)], {"kind": kind, "axis": axis})


def _softmax(m: Making) -> None:
    x = m.view(FLOATS, low=1)
    if digits(x.array)[0] > 50 or not finite(x.array):
        raise Unsuitable
    attrs = {"axis": m.c.int(0, len(x.shape) - 1), "log": m.c.one_in(2)}
    m.add("softmax", [x], [(x.dtype, x.shape)], attrs, exact=False)


def _norm(m: Making) -> None:
    c = m.c
    kind = c.pick(("layer", "rms", "group"))
    x = m.view(FLOATS, low=2 if kind == "group" else 1)
    attrs: dict[str, Any] = {"kind": kind, "eps": c.pick((0.25, 1.0, 0.03125))}
    if kind == "group":
        attrs["groups"] = c.pick([g for g in (1, 2, 4) if x.shape[1] % g == 0])
        parameters: tuple[int, ...] = (x.shape[1],)
        rows = x.array.reshape(x.shape[0], attrs["groups"], -1) if x.array.size else x.array
    else:
        attrs["axes"] = c.int(1, len(x.shape))
        parameters = x.shape[len(x.shape) - attrs["axes"] :]
        rows = x.array.reshape(-1, math.prod(parameters)) if x.array.size else x.array
    if not finite(x.array) or digits(x.array)[0] > 500 or not x.array.size:
        raise Unsuitable
    if kind != "rms" and float(rows.astype(np.float64).std(-1).min()) < 0.1:
        raise Unsuitable
    dtypes = (x.dtype, "float32")
    more = [m.view_of(dtypes, parameters, values=finite) if c.one_in(2) else None for _ in range(2)]
    if any(v is not None and not finite(v.array) for v in more):
        raise Unsuitable
    terms = digits(more[1].array)[0] if more[1] is not None else 0.0
    m.add("norm", [x, *more], [(x.dtype, x.shape)], attrs, exact=False, terms=terms)


def _topk(m: Making) -> None:
    x = m.view(low=1, exact=True)
    axis = m.c.int(0, len(x.shape) - 1)
    shape = list(x.shape)
    shape[axis] = m.c.int(0 if m.c.one_in(9) else min(1, shape[axis]), shape[axis])
    attrs = {"axis": axis, "largest": not m.c.one_in(2)}
    both = m.c.int(0, 2)
    m.add("topk", [x], [(x.dtype, shape) if both != 1 else None, ("int64", shape) if both != 2 else None], attrs)


def _indexing(m: Making, x: View, positions: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Axes, and for the other dimensions those of the positions that they follow."""
    c, axes, dims = m.c, [], []
    for n in x.shape:
        follows = [d for d, p in enumerate(positions) if p <= n and d not in dims]
        if follows and c.one_in(2):
            dims.append(follows[c.int(0, len(follows) - 1)])
        else:
            axes.append(len(dims))
            dims.append(-1)
    if not axes:
        raise Unsuitable
    return [axes[k] for k in c.order(len(axes))], dims


def _gather(m: Making) -> None:
    x = m.view(low=1, exact=False)
    shape = m.shape(m.c.int(0, 3))
    axes, dims = _indexing(m, x, shape)
    wrap = m.c.one_in(2)
    indices = [m.indices(shape, x.shape[d], wrap) for d in axes]
    m.add("gather", [x, *indices], [(x.dtype, shape)], {"axes": axes, "dims": dims, "wrap": wrap})


def _scatter(m: Making, onto: Value | None = None) -> None:
    c = m.c
    latest = next((v for v in reversed(m.values) if v.source == "main" and v.shape and not v.read), None)
    itself = onto is None and latest is not None and not c.one_in(3)  # what planning in place could get wrong
    x = whole(latest) if itself and latest else whole(onto) if onto else m.view(low=1, exact=False)
    shape = x.shape if itself or c.one_in(2) else m.shape(c.int(0, 3))
    axes, dims = _indexing(m, x, shape)
    updates = view_of_shape(c, x.value, shape) if onto is None and (itself or c.one_in(2)) else None
    updates = updates or m.view_of((x.dtype,), shape, exact=x.value.tolerance == 0)
    wrap = c.one_in(2)
    indices = [m.indices(shape, x.shape[d], wrap) for d in axes]
    attrs = {"kind": _scatter_kind(m, x, updates), "axes": axes, "dims": dims, "wrap": wrap}
    m.add("scatter", [x, updates, *indices], [(x.dtype, x.shape)], attrs, onto=_onto(onto))
    if itself:
        m.frozen.add(x.value.id)  # so that its memory is free


def _scatter_kind(m: Making, x: View, updates: View) -> str:
    if x.dtype == "bool" or x.value.tolerance:
        return "set"
    kind = str(m.c.pick(("set", "add", "max", "min", "mul")))
    if x.dtype not in FLOATS or kind not in ("add", "mul"):
        return kind
    every = np.concatenate([x.array.ravel(), updates.array.ravel()])
    exact = sums_exactly(updates.array.size + 1, every, bits=SIGNIFICANT[x.dtype])
    return "add" if kind == "add" and exact else "max"


def _onto(value: Value | None, result: int = 0) -> dict[int, Value] | None:
    return None if value is None else {result: value}


def _iota(m: Making) -> None:
    dtype = m.c.pick((*FLOATS, *INTEGERS))
    attrs = {"start": float(m.c.int(-8, 8)), "step": float(m.c.int(-2, 2))}
    if dtype in FLOATS:
        attrs["step"] /= 2
    m.add("iota", [], [(dtype, m.shape(1))], attrs)


def _pad(m: Making) -> None:
    c = m.c
    x = m.view(exact=False)
    kind = c.pick(("constant", "reflect", "replicate", "circular"))
    low, high, shape = [], [], []
    for n in x.shape:
        most = {"constant": 3, "reflect": n - 1, "replicate": 3 if n else 0, "circular": n}[kind]
        pair = [c.int(0, max(min(most, 3), 0)) for _ in range(2)] if c.one_in(2) else [0, 0]
        if kind == "constant" and n > 2 and c.one_in(4):
            pair[c.int(0, 1)] = -1
        low.append(pair[0])
        high.append(pair[1])
        shape.append(n + sum(pair))
    value = float(c.pick((0, 1, 3))) if x.dtype != "bool" else 0.0
    m.add("pad", [x], [(x.dtype, shape)], {"low": low, "high": high, "kind": kind, "value": value})


def _rope(m: Making, onto: Value | None = None) -> None:
    c = m.c
    dtype = c.pick(FLOATS) if onto is None else onto.dtype
    n, heads, groups, s, capacity = c.int(1, 2), c.int(1, 3), c.int(1, 2), c.pick((3, 1, 5)), c.pick((5, 7))
    width, value_width = c.pick((4, 8, 6)), c.pick((4, 3))
    if onto is not None:
        n, groups, capacity, width = onto.shape
        s = min(s, capacity)
    turned = 2 * c.int(1, width // 2)
    x = m.view_of((dtype,), (n, heads, s, width))
    angles = [m.view_of((dtype, "float32"), (n, 1, s, turned), values=finite) for _ in range(2)]
    inputs: list[View | None] = [x, *angles, None, None, None, None, None]
    outputs: list[Any] = [(dtype, x.shape), None, None]
    kind = c.int(0, 3) if onto is None else 2 + c.int(0, 1)
    if kind >= 1:
        inputs[3] = m.view_of((dtype,), (n, groups, s, width))
        outputs[1] = (dtype, (n, groups, s, width))
    if kind >= 2:
        inputs[5] = m.view_of((dtype,), (n, groups, capacity, width)) if onto is None else whole(onto)
        inputs[7] = m.indices((s,), capacity, False, distinct=True)
        if inputs[7].dtype != "int64":
            raise Unsuitable
        outputs[1] = (dtype, (n, groups, capacity, width))
    if kind == 3:
        inputs[4] = m.view_of((dtype,), (n, groups, s, value_width))
        inputs[6] = m.view_of((dtype,), (n, groups, capacity, value_width))
        outputs[2] = (dtype, (n, groups, capacity, value_width))
    rotated = [v.array for v in (x, inputs[3], *angles) if v is not None]
    if not finite(*rotated):
        raise Unsuitable
    exact = all(sums_exactly(2, y, z) for y in rotated[:-2] for z in rotated[-2:])
    m.add("rope", inputs, outputs, {"interleaved": c.one_in(2)}, exact, onto=_onto(onto, 1))


def _map_onto(m: Making, onto: Value) -> None:
    others = [m.view_of((onto.dtype,), onto.shape) for _ in range(m.c.int(0, 2))]
    views = [whole(onto), *others]
    expression = Expression(m.c, [v.array for v in views], [True] * len(views))
    expression.grow(3)
    kind = "f" if onto.dtype in FLOATS else "b" if onto.dtype == "bool" else "i"
    if not expression.ends_as(kind):
        raise Unsuitable
    m.add("map", views, [(onto.dtype, onto.shape)], {"expr": expression.steps}, expression.exact[-1], onto=_onto(onto))


def _copy_onto(m: Making, onto: Value) -> None:
    m.add("copy", [m.view_of((onto.dtype,), onto.shape, exact=False)], [(onto.dtype, onto.shape)], {}, onto=_onto(onto))


def update(m: Making) -> None:
    """Of an input, which nothing reads any more."""
    inputs = [v for v in m.values if v.source == "input" and v.id not in m.frozen]
    if not inputs:
        raise Unsuitable
    onto = m.c.pick(inputs)
    m.frozen.add(onto.id)  # nothing else may read it
    kinds: list[Callable[[Making, Value], None]] = [_map_onto, _copy_onto]
    kinds += [_scatter] if onto.shape else []
    kinds += [_rope] if len(onto.shape) == 4 and onto.dtype in FLOATS and onto.shape[3] > 1 and onto.array.size else []
    count = len(m.alias)
    try:
        m.c.pick(kinds)(m, onto)
    finally:
        if len(m.alias) == count:
            m.frozen.discard(onto.id)


MAKERS: dict[str, Callable[[Making], None]] = {
    **declared(), "map": _map, "reduce": _reduce, "scan": _scan, "softmax": _softmax, "norm": _norm,
    "topk": _topk, "gather": _gather, "scatter": _scatter, "iota": _iota, "pad": _pad, "matmul": matmul,
    "dequantize": dequantize, "attention": attention, "rope": _rope, **SPATIAL,
}  # fmt: skip
