"""Ops with spatial dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .making import Making
from .products import product
from .values import FLOATS, Unsuitable, View, finite, sums_exactly


def _image(m: Making, channels: tuple[int, ...] = (3, 1, 2, 4, 8)) -> View:
    c = m.c
    dims = c.int(1, 3)
    extents = {1: (7, 3, 12), 2: (5, 3, 7), 3: (3, 2, 4)}[dims]
    shape = (c.int(1, 2), c.pick(channels), *(c.pick(extents) for _ in range(dims)))
    x = m.view_of((c.pick(FLOATS),), shape, values=finite)
    if not finite(x.array):
        raise Unsuitable
    return x


def _conv(m: Making) -> None:
    from .making import Unsuitable

    c = m.c
    x = _image(m)
    dims, channels = len(x.shape) - 2, x.shape[1]
    groups = c.pick([g for g in (1, channels, 2) if channels % g == 0])
    out_channels = groups * c.int(1, 3)
    kernel = [c.pick((3, 1, 2)) for _ in range(dims)]
    w = m.view_of((x.dtype,), (out_channels, channels // groups, *kernel), values=finite)
    bias = m.view_of((x.dtype, "float32"), (out_channels,), values=finite) if c.one_in(2) else None
    if not finite(w.array, *([bias.array] if bias else [])):
        raise Unsuitable
    attrs: dict[str, Any] = {"stride": [c.int(1, 2) for _ in kernel], "dilation": [c.int(1, 2) for _ in kernel]}
    attrs["input_dilation"] = [c.pick((1, 1, 2)) for _ in kernel]
    for side in ("padding_low", "padding_high"):
        attrs[side] = [c.pick((0, 1, 2, -1)) for _ in kernel]
    shape = [x.shape[0], out_channels]
    for d in range(dims):
        spread = (x.shape[d + 2] - 1) * attrs["input_dilation"][d] + 1
        room = spread + attrs["padding_low"][d] + attrs["padding_high"][d] - attrs["dilation"][d] * (kernel[d] - 1) - 1
        if room < 0:
            raise Unsuitable
        shape.append(room // attrs["stride"][d] + 1)
    if math.prod(shape) > 600:
        raise Unsuitable
    attrs["groups"] = groups
    product(m, "conv", [x, w, bias], tuple(shape), attrs, math.prod(w.shape[1:]))


def _pool(m: Making) -> None:
    c = m.c
    x = _image(m)
    kind, dims = c.pick(("max", "avg")), len(x.shape) - 2
    attrs: dict[str, Any] = {"kind": kind, "kernel": [c.int(1, 3) for _ in range(dims)]}
    attrs["stride"] = [c.int(1, 3) for _ in range(dims)]
    attrs["dilation"] = [c.pick((1, 1, 2)) if kind == "max" else 1 for _ in range(dims)]
    attrs["padding"] = [c.int(0, k // 2) for k in attrs["kernel"]]
    shape = list(x.shape[:2])
    for d in range(dims):
        room = x.shape[d + 2] + 2 * attrs["padding"][d] - attrs["dilation"][d] * (attrs["kernel"][d] - 1) - 1
        if room < 0:
            raise Unsuitable
        shape.append(room // attrs["stride"][d] + 1)
    if kind == "avg":
        attrs |= {"count_padding": not c.one_in(2), "divisor": c.pick((0, 0, 3))}
    _windows(m, "pool", x, shape, attrs)


def _windows(m: Making, kind: str, x: View, shape: list[int], attrs: dict[str, Any]) -> None:
    exact = attrs["kind"] == "max"
    if not exact and not sums_exactly(32, x.array):
        raise Unsuitable
    indices = ("int64", shape) if exact and m.c.one_in(2) else None
    m.add(kind, [x], [(x.dtype, shape), indices] if indices else [(x.dtype, shape)], attrs, exact)


def _adaptive_pool(m: Making) -> None:
    x = _image(m)
    shape = [*x.shape[:2], *(m.c.int(1, 5) for _ in x.shape[2:])]
    _windows(m, "adaptive_pool", x, shape, {"kind": m.c.pick(("max", "avg"))})


def _resize(m: Making) -> None:
    c = m.c
    x = _image(m)
    dims = len(x.shape) - 2
    kind = c.pick(("nearest", "nearest_exact", "linear", *(["cubic"] if dims == 2 else [])))
    attrs: dict[str, Any] = {"kind": kind, "align_corners": kind in ("linear", "cubic") and c.one_in(2), "scales": []}
    shape = list(x.shape[:2])
    for n in x.shape[2:]:
        scale = c.pick((0.0, 2.0, 0.5, 1.5))
        attrs["scales"].append(scale)
        shape.append(max(int(n * scale), 1) if scale else c.int(1, 8))
    m.add("resize", [x], [(x.dtype, shape)], attrs, exact=kind.startswith("nearest"))


def _grid_sample(m: Making) -> None:
    c = m.c
    x = _image(m)
    dims = len(x.shape) - 2
    if dims < 2:
        raise Unsuitable
    extents = [c.int(1, 5) for _ in range(dims)]
    grid = m.view_of((x.dtype, "float32"), (x.shape[0], *extents, dims), values=finite)
    if not finite(grid.array) or abs(grid.array).max(initial=0) > 64:  # far away float32 tells few cells apart
        raise Unsuitable
    kind = c.pick(("nearest", "linear", *(["cubic"] if dims == 2 else [])))
    padding = c.pick(("zeros", "border", "reflection"))
    attrs = {"kind": kind, "padding": padding, "align_corners": c.one_in(2)}
    m.add("grid_sample", [x, grid], [(x.dtype, [*x.shape[:2], *extents])], attrs, exact=kind == "nearest")


SPATIAL: dict[str, Callable[[Making], None]] = {
    "conv": _conv, "pool": _pool, "adaptive_pool": _adaptive_pool, "resize": _resize,
    "grid_sample": _grid_sample,
}  # fmt: skip
