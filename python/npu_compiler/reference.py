"""A slow interpreter of programs in NumPy: what docs/program-format.md says, once more and independently.

Floats are float64 within ops, rounded to each value's dtype where it is stored.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

Array = Any  # of NumPy; its annotations are stricter than an interpreter can say


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def run(program: Any, inputs: Mapping[str, Array], weights: Mapping[str, Array] = {}) -> dict[str, Array]:
    with np.errstate(all="ignore"):
        return Interpreter(program).outputs(inputs, weights)


class Interpreter:
    """Flat arrays by value, as far as they are known. Without ``rounded``, results stay float64."""

    def __init__(self, program: Any, *, rounded: bool = True) -> None:
        self.data, self.constants, self.rounded = program.data, program.constants, rounded
        self.values: dict[int, Array] = {}

    def outputs(self, inputs: Mapping[str, Array], weights: Mapping[str, Array]) -> dict[str, Array]:
        for entries, given in ((self.data["inputs"], inputs), (self.data["weights"], weights)):
            for entry in entries:
                if entry.get("required", True) or entry["name"] in given:
                    meta, array = self.data["values"][entry["value"]], np.asarray(given[entry["name"]])
                    assert list(array.shape) == meta["shape"] and array.dtype == dtype_of(meta["dtype"]), entry["name"]
                    self.values[entry["value"]] = np.ascontiguousarray(array).reshape(-1)
        for entry in self.data["constants"]:
            meta = self.data["values"][entry["value"]]
            raw = np.frombuffer(self.constants, dtype_of(meta["dtype"]), math.prod(meta["shape"]), entry["offset"])
            self.values[entry["value"]] = raw
        for op in (*self.data["prepare"], *self.data["main"]):
            self.step(op)
        return {o["name"]: self.view(o["value"]) for o in self.data["outputs"]}

    def view(self, operand: Any) -> Any:
        if operand is None:
            return None
        if isinstance(operand, int):
            meta = self.data["values"][operand]
            if operand not in self.values:
                dtype = dtype_of(meta["dtype"])
                dtype = dtype if self.rounded or not is_float(dtype) else np.dtype(np.float64)
                self.values[operand] = np.zeros(math.prod(meta["shape"]), dtype)
            return self.values[operand].reshape(meta["shape"])
        at, shape, strides, offset = operand
        flat = self.view(at).reshape(-1)
        if not math.prod(shape):
            return np.zeros(shape, flat.dtype)
        low = offset + sum(min(0, s * (n - 1)) for n, s in zip(shape, strides, strict=True))
        high = offset + sum(max(0, s * (n - 1)) for n, s in zip(shape, strides, strict=True))
        assert low >= 0 and high < flat.size, operand
        size = flat.itemsize
        return np.lib.stride_tricks.as_strided(flat[offset:], shape, [s * size for s in strides])

    def step(self, op: dict[str, Any]) -> None:
        args = [self.view(o) for o in op["in"]]
        outs = [self.view(o) for o in op["out"]]
        results = OPS[op["op"]](args, outs, op["attrs"])
        for out, result in zip(outs, results if isinstance(results, tuple) else (results,), strict=False):
            if out is not None and out.size:
                out[...] = result if out.dtype == np.float64 else store(result, out.dtype)


def store(x: Any, dtype: np.dtype[Any]) -> Array:
    x = np.asarray(x)
    if is_float(dtype) and x.dtype == np.float64:
        x = x.astype(np.float32)
    return x.astype(dtype)


def is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype == dtype_of("bfloat16")


def wide(x: Array) -> Array:
    """As arithmetic sees it."""
    return x.astype(np.float64) if is_float(x.dtype) else x if x.dtype == bool else x.astype(np.int64)


def to_integer(x: Array, dtype: np.dtype[Any]) -> Array:
    """Without its fraction, or the nearest that the dtype has; NaN gives 0."""
    limits = np.iinfo(dtype)
    y = np.trunc(np.where(np.isnan(x), 0, x))
    inside = (y >= limits.min) & (y < float(limits.max))
    return np.where(inside, np.where(inside, y, 0).astype(np.int64), np.where(y < 0, limits.min, limits.max))


_erf = np.vectorize(math.erf, otypes=[np.float64])
_SIGMOID: Callable[[Array], Array] = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
UNARY: dict[str, Callable[[Array], Array]] = {
    "neg": np.negative, "abs": np.abs, "relu": lambda x: np.maximum(x, np.zeros_like(x)),
    "sign": lambda x: np.where(x != x, np.zeros_like(x), np.sign(x)),  # 0 of NaN, as PyTorch's
    "inot": np.invert, "lnot": np.logical_not, "rsqrt": lambda x: 1 / np.sqrt(x), "reciprocal": lambda x: 1 / x,
    "erf": _erf, "erfc": np.vectorize(math.erfc, otypes=[np.float64]), "sigmoid": _SIGMOID,
    "silu": lambda x: x * _SIGMOID(x), "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "softplus": lambda x: np.logaddexp(0.0, x), "mish": lambda x: x * np.tanh(np.logaddexp(0.0, x)),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6, "hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "round": np.rint, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh,
}  # fmt: skip
BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "div": np.divide,
    "pow": np.power, "fmod": np.fmod, "atan2": np.arctan2, "idiv_floor": np.floor_divide, "irem_floor": np.remainder,
    "idiv_trunc": lambda a, b: np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)), "irem_trunc": np.fmod,
    "ipow": np.power,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "shl": np.left_shift, "shr": np.right_shift,
    "land": np.logical_and, "lor": np.logical_or, "lxor": np.logical_xor, "eq": np.equal, "ne": np.not_equal,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip


def evaluate(steps: list[list[Any]], operands: list[Array]) -> Array:
    at: list[Any] = []
    for name, *args in steps:
        if name == "in":
            at.append(wide(operands[args[0]]))
        elif name == "const":
            at.append({"f": np.float64, "i": np.int64, "b": np.bool_}[args[1]](args[0]))
        elif name == "cast":
            x, dtype = np.asarray(at[args[0]]), dtype_of(args[1])
            if dtype.kind in "iu" and x.dtype.kind == "f":
                x = to_integer(x, dtype)
            at.append(wide(store(x, dtype)))
        elif name == "where":
            at.append(np.where(*(at[a] for a in args)))
        else:
            function = UNARY.get(name) or BINARY.get(name) or getattr(np, name)
            at.append(function(*(at[a] for a in args)))
    return np.asarray(at[-1])


def _map(args: list[Array], outs: list[Array], a: dict[str, Any]) -> Array:
    return evaluate(a["expr"], args)


def _epilogue(total: Array, extras: list[Array], attrs: dict[str, Any]) -> Array:
    sums = np.split(total, 2, -1) if attrs.get("halves") else [total]
    return evaluate(attrs["epilogue"], [*sums, *extras]) if attrs.get("epilogue") else total


def _attention(args: list[Any], outs: list[Array], a: dict[str, Any]) -> Array:
    q, k, v = (wide(x) for x in args[:3])
    if len(args) > 4 and args[4] is not None:
        k, v = (x * wide(scales)[..., None] for x, scales in zip((k, v), args[4:], strict=True))
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = np.matmul(q, k.swapaxes(2, 3)) * a["scale"]
    if len(args) > 3 and args[3] is not None:
        mask = args[3]
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + wide(mask)
    if a.get("causal"):
        scores = np.where(np.tri(*scores.shape[2:]) > 0, scores, -np.inf)
    peak = scores.max(-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - peak)
    weights = weights / weights.sum(-1, keepdims=True)
    if a.get("masked_rows", "zero") == "zero":
        weights = np.where(peak == -np.inf, 0, weights)
    return np.matmul(weights, v)


def _rotated(x: Array, cos: Array, sin: Array, interleaved: bool) -> Array:
    x, cos, sin = wide(x), wide(cos), wide(sin)
    n = cos.shape[-1]
    pairs = np.arange(n).reshape(-1, 2) if interleaved else np.arange(n).reshape(2, -1).T
    other = x[..., :n].copy()
    other[..., pairs[:, 0]], other[..., pairs[:, 1]] = -x[..., pairs[:, 1]], x[..., pairs[:, 0]]
    return np.concatenate([x[..., :n] * cos + other * sin, x[..., n:]], -1)


def _rope(args: list[Any], outs: list[Array], a: dict[str, Any]) -> tuple[Any, ...]:
    every: list[Any] = [*args, *[None] * (8 - len(args))]
    x, cos, sin, key, value, keys, values, index = every
    interleaved = a.get("interleaved", False)
    out = _rotated(x, cos, sin, interleaved)
    if key is None:
        return (out,)
    turned = store(_rotated(key, cos, sin, interleaved), key.dtype)
    if keys is None:
        return out, turned
    keys = keys.copy()
    keys[:, :, index] = turned
    if values is None:
        return out, keys
    values = values.copy()
    values[:, :, index] = value
    return out, keys, values


def _spatial(index: Iterable[Any]) -> tuple[Any, ...]:
    """An index of the dimensions behind batch and channels."""
    return (slice(None), slice(None), *index)


def _conv(args: list[Any], outs: list[Array], a: dict[str, Any]) -> Array:
    x, w, bias = wide(args[0]), wide(args[1]), wide(args[2]) if len(args) > 2 and args[2] is not None else None
    n = x.ndim - 2
    gaps = a["input_dilation"]
    spread = np.zeros((*x.shape[:2], *(max((s - 1) * d + 1, 0) for s, d in zip(x.shape[2:], gaps, strict=True))))
    spread[_spatial(slice(None, None, d) for d in gaps)] = x
    x = _padded(spread, [0, 0, *a["padding_low"]], [0, 0, *a["padding_high"]])
    groups, out = a.get("groups", 1), np.zeros(outs[0].shape)
    per_in, per_out = x.shape[1] // groups, w.shape[0] // groups
    for taps in itertools.product(*(range(k) for k in w.shape[2:])):
        steps = zip(taps, a["dilation"], a["stride"], out.shape[2:], strict=True)
        window = x[_spatial(slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, s, o in steps)]
        for g in range(groups):
            part = window[:, g * per_in : (g + 1) * per_in]
            kernel = w[_spatial(taps)][g * per_out : (g + 1) * per_out]
            out[:, g * per_out : (g + 1) * per_out] += np.moveaxis(np.tensordot(kernel, part, (1, 1)), 0, 1)
    if bias is not None:
        out += bias.reshape(-1, *[1] * n)
    return _epilogue(out, args[3:], a)


def _padded(x: Array, low: list[int], high: list[int], **how: Any) -> Array:
    x = np.pad(x, [(max(p, 0), max(q, 0)) for p, q in zip(low, high, strict=True)], **how)
    return x[tuple(slice(max(-p, 0), n - max(-q, 0)) for n, p, q in zip(x.shape, low, high, strict=True))]


_WIDE_AT_ONCE = 1 << 24  # elements of a weight in float64: the vocabulary of a language model takes gigabytes


def _dequantized(parts: Sequence[Array | None], depth: int, a: dict[str, Any]) -> Array:
    """Bit by bit, in float64."""
    given: list[Any] = [*parts, *[None] * (4 - len(parts))]
    q, scales, offsets, units = given
    bits, group = a["bits"], a.get("group", 0) or max(depth, 1)
    stream = np.unpackbits(q, axis=-1, bitorder="little")[..., : depth * bits]
    digits = stream.reshape(*q.shape[:-1], depth, bits).astype(np.int64)
    integers = (digits << np.arange(bits)).sum(-1)
    if a.get("signed_integers"):
        integers -= digits[..., -1] << bits
    scale, offset = (None if x is None else np.repeat(wide(x), group, -1)[..., :depth] for x in (scales, offsets))
    kind = a.get("offset", "none")
    if units is not None:
        step = 1 if kind == "none" else 2
        each = [np.repeat(wide(units)[..., i::step], a["unit"], -1)[..., :depth] for i in range(step)]
        scale, offset = scale * each[0], None if offset is None else offset * each[-1]
    if kind == "point":
        return scale * (integers - offset)
    return scale * integers + (offset if kind == "bias" else 0)


def _dequantize(args: list[Any], outs: list[Array], a: dict[str, Any]) -> Array:
    return _dequantized(args, outs[0].shape[-1], a)


def _product(a: Array, b: Array) -> Array:
    a, columns = wide(a), max(1, _WIDE_AT_ONCE * b.shape[-1] // max(b.size, 1))
    parts = [np.matmul(a, wide(b[..., n : n + columns])) for n in range(0, b.shape[-1], columns)]
    return np.concatenate(parts, -1) if parts else np.matmul(a, wide(b))


def _matmul(args: list[Any], outs: list[Array], a: dict[str, Any]) -> Array:
    args = [*args, *[None] * (6 - len(args))]
    right = args[1]
    if a.get("bits"):
        right = _dequantized([right, *args[3:6]], args[0].shape[-1], a).T
    total = _product(args[0], right)
    if args[2] is not None:
        total = total + wide(args[2])
    return _epilogue(total, args[6:], a)


def _pool(args: list[Array], outs: list[Array], a: dict[str, Any]) -> tuple[Array, Array]:
    x, kernel, pad = wide(args[0]), a["kernel"], a["padding"]
    out, places = np.zeros(outs[0].shape), np.zeros(outs[0].shape, np.int64)
    flat = np.arange(math.prod(x.shape[2:])).reshape(x.shape[2:])
    for cell in itertools.product(*(range(n) for n in out.shape[2:])):
        starts = [c * s - p for c, s, p in zip(cell, a["stride"], pad, strict=True)]
        index = [[b + t * d for t in range(k) if 0 <= b + t * d < n]
                 for b, k, d, n in zip(starts, kernel, a["dilation"], x.shape[2:], strict=True)]  # fmt: skip
        window = x[_spatial(np.ix_(*index))]
        window = window.reshape(*x.shape[:2], math.prod(window.shape[2:]))
        at = _spatial(cell)
        if a["kind"] == "max":
            out[at], places[at] = _first_max(window, flat[np.ix_(*index)].reshape(-1))
            continue
        padded = math.prod(min(b + k, n + p) - b for b, k, n, p in zip(starts, kernel, x.shape[2:], pad, strict=True))
        count = a.get("divisor", 0) or (padded if a.get("count_padding", True) else window.shape[-1])
        out[at] = window.sum(-1) / count
    return out, places


def _first_max(window: Array, names: Array) -> tuple[Array, Array]:
    key = np.where(np.isnan(window), np.inf, window)
    best = np.where(np.isnan(window).any(-1), np.isnan(window).argmax(-1), key.argmax(-1))
    return np.take_along_axis(window, best[..., None], -1)[..., 0], names[best]


def _adaptive(args: list[Array], outs: list[Array], a: dict[str, Any]) -> tuple[Array, Array]:
    x = wide(args[0])
    out, places = np.zeros(outs[0].shape), np.zeros(outs[0].shape, np.int64)
    flat = np.arange(math.prod(x.shape[2:])).reshape(x.shape[2:])
    for cell in itertools.product(*(range(n) for n in out.shape[2:])):
        cut = tuple(
            slice(c * n // o, -(-(c + 1) * n // o)) for c, n, o in zip(cell, x.shape[2:], out.shape[2:], strict=True)
        )
        window, at = x[_spatial(cut)], _spatial(cell)
        window = window.reshape(*x.shape[:2], math.prod(window.shape[2:]))
        if a["kind"] == "max":
            out[at], places[at] = _first_max(window, flat[cut].reshape(-1))
        else:
            out[at] = window.mean(-1)
    return out, places


def _norm(args: list[Any], outs: list[Array], a: dict[str, Any]) -> Array:
    x = wide(args[0])
    weight, bias = ([wide(v) if v is not None else None for v in args[1:]] + [None, None])[:2]
    if a["kind"] == "group":
        parts = x.reshape(x.shape[0], a["groups"], -1)
        y = ((parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + a["eps"])).reshape(
            x.shape
        )
        weight, bias = (None if v is None else v.reshape(-1, *[1] * (x.ndim - 2)) for v in (weight, bias))
    else:
        axes = tuple(range(x.ndim - a["axes"], x.ndim))
        centred = x - x.mean(axes, keepdims=True) if a["kind"] == "layer" else x
        y = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + a["eps"])
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _softmax(args: list[Array], outs: list[Array], a: dict[str, Any]) -> Array:
    x = wide(args[0])
    if not x.size:
        return x
    x = x - x.max(a["axis"], keepdims=True)
    total = np.exp(x).sum(a["axis"], keepdims=True)
    return x - np.log(total) if a["log"] else np.exp(x) / total


def _reduce(args: list[Array], outs: list[Array], a: dict[str, Any]) -> Array:
    x, axes, kind = wide(args[0]), tuple(a["axes"]), a["kind"]
    if kind in ("argmax", "argmin"):
        key = x.astype(np.float64) if kind == "argmax" else -x.astype(np.float64)
        key = np.where(np.isnan(key), np.inf, key)
        nan = np.isnan(x.astype(np.float64))
        place = np.where(nan.any(axes[0]), nan.argmax(axes[0]), key.argmax(axes[0]))
        return np.expand_dims(place, axes[0])
    if kind in ("var", "std"):
        n = math.prod(x.shape[d] for d in axes) - a.get("correction", 0)
        wider = x.astype(np.float64)
        variance = ((wider - wider.mean(axes, keepdims=True)) ** 2).sum(axes, keepdims=True) / max(n, 0)
        return np.sqrt(variance) if kind == "std" else variance
    return getattr(np, {"any": "any", "all": "all"}.get(kind, kind))(x, axis=axes, keepdims=True)


def _scan(args: list[Array], outs: list[Array], a: dict[str, Any]) -> Array:
    return (np.cumsum if a["kind"] == "sum" else np.cumprod)(wide(args[0]), axis=a["axis"])


def _scan_extreme(args: list[Array], outs: list[Array], a: dict[str, Any]) -> tuple[Array, Array]:
    x = np.moveaxis(args[0], a["axis"], -1)
    index = np.zeros(x.shape, np.int64)
    for i in range(1, x.shape[-1]):
        best = np.take_along_axis(x, index[..., i - 1 : i], -1)[..., 0]
        later = x[..., i] >= best if a["kind"] == "max" else x[..., i] <= best
        index[..., i] = np.where(later | (x[..., i] != x[..., i]), i, index[..., i - 1])
    return np.moveaxis(np.take_along_axis(x, index, -1), -1, a["axis"]), np.moveaxis(index, -1, a["axis"])


def _order(x: Array, axis: int, descending: bool) -> Array:
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    back = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    return x.shape[axis] - 1 - back


def _sort(args: list[Array], outs: list[Array], a: dict[str, Any]) -> tuple[Array, Array]:
    order = _order(wide(args[0]), a["axis"], a.get("descending", a.get("largest", False)))
    k = next(o for o in outs if o is not None).shape[a["axis"]]
    order = np.take(order, range(k), a["axis"])
    return np.take_along_axis(args[0], order, a["axis"]), order


def _places(x: Array, indices: list[Array], shape: tuple[int, ...], a: dict[str, Any]) -> tuple[Array, ...]:
    grid = np.indices(shape)
    place: list[Array] = []
    for d, n in enumerate(x.shape):
        if d not in a["axes"]:
            place.append(grid[a["dims"][d]])
            continue
        index = indices[a["axes"].index(d)]
        assert index.shape == shape
        index = index.astype(np.int64)
        index = np.where(index < 0, index + n, index) if a.get("wrap") else index
        assert not index.size or (index.min() >= 0 and index.max() < n)
        place.append(index)
    return tuple(place)


def _gather(args: list[Array], outs: list[Array], a: dict[str, Any]) -> Array:
    return args[0][_places(args[0], args[1:], outs[0].shape, a)]


def _scatter(args: list[Array], outs: list[Array], a: dict[str, Any]) -> Array:
    out, updates = np.array(wide(args[0])), wide(args[1])
    place = _places(out, args[2:], updates.shape, a)
    if a["kind"] == "set":
        for u in np.ndindex(updates.shape):
            out[tuple(p[u] for p in place)] = updates[u]
    else:
        {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[a["kind"]].at(out, place, updates)
    return out


def _iota(args: list[Array], outs: list[Array], a: dict[str, Any]) -> Array:
    return a["start"] + np.arange(outs[0].size) * a["step"]


def _resize(args: list[Array], outs: list[Array], a: dict[str, Any]) -> Array:
    x, kind = wide(args[0]), a["kind"]
    for d, (scale, out) in enumerate(zip(a["scales"], outs[0].shape[2:], strict=True), 2):
        n = x.shape[d]
        ratio = 1 / scale if scale else n / out
        i = np.arange(out)
        if kind.startswith("nearest"):
            at = np.floor(((i + 0.5) if kind == "nearest_exact" else i) * np.float32(ratio)).astype(int)
            x = np.take(x, np.minimum(at, n - 1), d)
            continue
        if a["align_corners"]:
            at = i * ((n - 1) / (out - 1) if out > 1 else 0)
        else:
            at = (i + 0.5) * ratio - 0.5
            at = np.maximum(at, 0) if kind == "linear" else at
        base = np.floor(at).astype(int)
        t = (at - base).reshape(-1, *[1] * (x.ndim - d - 1))
        pick = lambda k: np.take(x, np.clip(base + k, 0, n - 1), d)  # noqa: B023, E731
        if kind == "linear":
            x = pick(0) * (1 - t) + pick(1) * t
        else:
            c = -0.75
            near = lambda u: ((c + 2) * u - (c + 3)) * u * u + 1  # noqa: B023, E731
            far = lambda u: ((c * u - 5 * c) * u + 8 * c) * u - 4 * c  # noqa: B023, E731
            x = pick(-1) * far(t + 1) + pick(0) * near(t) + pick(1) * near(1 - t) + pick(2) * far(2 - t)
    return x


def _grid_sample(args: list[Array], outs: list[Array], a: dict[str, Any]) -> Array:
    x, dims, kind = wide(args[0]), args[0].ndim - 2, a["kind"]
    batch = np.arange(len(x)).reshape(-1, *[1] * dims)

    def padded(at: Array, last: int) -> Array:
        if a["padding"] == "reflection":
            low, span = (0.0, last) if a["align_corners"] else (-0.5, last + 1)
            turns, rest = np.divmod(np.abs(at - low), span) if span else (0, 0 * at)
            at = np.where(turns % 2, span - rest, rest) + low
        return at if a["padding"] == "zeros" else np.clip(np.where(np.isnan(at), 0, at), 0, last)

    taps: list[list[tuple[Array, Array]]] = []  # positions along each dimension, and their weights
    for d, n in enumerate(x.shape[2:]):
        grid = np.float32(1) + args[1][..., dims - 1 - d].astype(np.float32)
        at = grid * np.float32((n - 1) / 2) if a["align_corners"] else grid * np.float32(n / 2) - np.float32(0.5)
        low, near = np.floor(at), lambda u: (1.25 * u - 2.25) * u * u + 1
        far = lambda u: ((-0.75 * u + 3.75) * u - 6) * u + 3  # noqa: E731
        t = wide(at - low)
        if kind == "cubic":
            weights = (far(t + 1), near(t), near(1 - t), far(2 - t))
            taps.append([(padded(low + k - 1, n - 1), w) for k, w in enumerate(weights)])
        elif kind == "nearest":
            taps.append([(np.round(padded(at, n - 1)), np.ones_like(t))])
        else:
            low = np.floor(at := wide(padded(at, n - 1)))
            taps.append([(low, 1 - (at - low)), (low + 1, at - low)])
    out = np.zeros_like(outs[0], wide(x).dtype)
    for corner in itertools.product(*taps):
        inside = np.all([(at >= 0) & (at <= n - 1) for (at, _), n in zip(corner, x.shape[2:], strict=True)], axis=0)
        place = (batch, *(np.where(inside, at, 0).astype(int) for at, _ in corner))
        values = np.moveaxis(x, 1, -1)[place]
        weight = np.asarray(math.prod(w for _, w in corner))[..., None]
        out += np.moveaxis(np.where(inside[..., None], values * weight, 0 * weight if dims == 2 else 0), -1, 1)
    return out


def _pad(args: list[Array], outs: list[Array], a: dict[str, Any]) -> Array:
    x = args[0]
    if not x.ndim or not outs[0].size:
        return x if not x.ndim else outs[0]
    more: dict[str, Any] = {"mode": {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}.get(a["kind"])}
    if a["kind"] == "constant":
        more = {"constant_values": np.asarray(float(a["value"])).astype(x.dtype)}
    return _padded(x, a["low"], a["high"], **more)


OPS: dict[str, Callable[..., Any]] = {
    "map": _map, "copy": lambda args, outs, a: args[0], "conv": _conv, "matmul": _matmul, "pool": _pool,
    "dequantize": _dequantize, "attention": _attention, "rope": _rope,
    "adaptive_pool": _adaptive, "norm": _norm, "softmax": _softmax, "reduce": _reduce, "scan": _scan,
    "scan_extreme": _scan_extreme, "sort": _sort,
    "topk": _sort, "gather": _gather, "scatter": _scatter, "iota": _iota, "resize": _resize,
    "grid_sample": _grid_sample, "pad": _pad,
}  # fmt: skip
