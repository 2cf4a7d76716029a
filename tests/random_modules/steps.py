"""What random modules are made of: for each family of operators, a step with arguments drawn at random.

A step is a function of tensors and its arguments, bound when it is drawn. How its result is compared follows from what
it computes: ``EXACT`` to the bit, ``CLOSE`` by a bound on rounding, ``FREE`` (not at all) what is computed from a
result that was only close.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

EXACT, CLOSE, FREE = "exact", "close", "free"
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
DTYPES = (*FLOATS, *INTEGERS, torch.bool)
SHAPES = (
    (),
    (1,),
    (3,),
    (4,),
    (2, 3),
    (3, 4),
    (4, 1),
    (1, 4),
    (2, 3, 4),
    (3, 1, 2),
    (2, 2, 3, 2),
    (0,),
    (0, 3),
    (2, 0),
)
NUMBERS = (0, 1, -1, 2, 3, -7, 0.1, 0.3, 0.5, -0.5, 1.5, 2.5, 1.0, 0.0, -0.0, 25, 300, -300, 2049, 257, 2**31, 1e-4,
           1e5, True, False)  # fmt: skip
SPECIAL = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    0.3,
    0.5,
    2.5,
    -1.5,
    1000.7,
    2049.0,
    -65504.0,
    1e30,
    math.inf,
    -math.inf,
    math.nan,
)


@dataclass
class Step:
    """``reads`` are places in the list of values; ``quality`` is that of a result whose operands are exact."""

    name: str
    call: Callable[..., Tensor]
    reads: list[int]
    quality: str = EXACT
    arithmetic: bool = False
    """Its half result depends on whether those of its operands were rounded."""
    arguments: dict[str, Any] = field(default_factory=dict)

    def run(self, values: list[Tensor]) -> Tensor:
        return self.call(*(values[at] for at in self.reads), **self.arguments)

    def __str__(self) -> str:
        given = ", ".join([*(f"v{at}" for at in self.reads), *(f"{k}={v!r}" for k, v in self.arguments.items())])
        return f"{self.name}({given})"


class Draw:
    """Draws steps for the values that are there."""

    def __init__(self, rng: random.Random, values: list[Tensor]) -> None:
        self.rng, self.values = rng, values

    def pick(self, fits: Callable[[Tensor], bool] = lambda x: True) -> int:
        """A place; later ones are likelier, so that chains grow."""
        fitting = [at for at, value in enumerate(self.values) if fits(value)]
        if not fitting:
            raise LookupError
        return self.rng.choice(fitting[-4:] if self.rng.random() < 0.6 else fitting)

    def like(self, at: int) -> int:
        """One that broadcasts with the value there; perhaps itself."""
        shape = self.values[at].shape

        def fits(x: Tensor) -> bool:
            try:
                return len(torch.broadcast_shapes(x.shape, shape)) <= 4
            except RuntimeError:
                return False

        return self.pick(fits)

    def dim(self, at: int, extra: int = 0) -> int:
        rank = self.values[at].ndim + extra
        return self.rng.randrange(-max(rank, 1), max(rank, 1))

    def step(self) -> Step:
        maker = self.rng.choices(MAKERS, WEIGHTS)[0]
        return maker(self)


def is_float(x: Tensor) -> bool:
    return x.is_floating_point()


def unary(d: Draw) -> Step:
    names = "neg abs relu square floor ceil round trunc frac sign isnan isinf isfinite logical_not bitwise_not sqrt "
    names += "reciprocal relu6 sgn signbit positive"
    name = d.rng.choice(names.split())
    at = d.pick()
    special = {"relu6": torch.nn.functional.relu6}
    quality = CLOSE if name == "sqrt" else EXACT  # PyTorch's vector code may be off by a bit
    return Step(name, special.get(name) or getattr(torch, name), [at], quality, arithmetic=True)


def scaled(d: Draw) -> Step:
    """With numbers as parameters."""
    low, high = sorted((float(d.rng.choice(NUMBERS)), float(d.rng.choice(NUMBERS))))
    F: Any = torch.nn.functional
    choices: list[tuple[str, Callable[..., Tensor], dict[str, Any]]] = [
        ("clamp", torch.clamp, {"min": low, "max": high}),
        ("clamp", torch.clamp, {"min": d.rng.choice(NUMBERS)}),
        ("hardtanh", F.hardtanh, {"min_val": low, "max_val": high}),
        ("threshold", F.threshold, {"threshold": low, "value": high}),
        ("hardshrink", F.hardshrink, {"lambd": abs(low)}),
        ("softshrink", F.softshrink, {"lambd": abs(low)}),
        ("leaky_relu", F.leaky_relu, {"negative_slope": low}),
        ("nan_to_num", torch.nan_to_num, {"nan": low, "posinf": high}),
    ]
    name, call, arguments = d.rng.choice(choices)
    # Where a module writes in place, export may take softshrink apart into ops that round.
    quality = CLOSE if name == "softshrink" else EXACT
    return Step(name, call, [d.pick()], quality, arithmetic=True, arguments=arguments)


BINARY = "add sub mul div maximum minimum fmod remainder floor_divide copysign fmax fmin eq ne lt le gt ge logical_and "
BINARY += "logical_or logical_xor bitwise_and bitwise_or bitwise_xor isclose true_divide"


def binary(d: Draw) -> Step:
    name = d.rng.choice(BINARY.split())
    at = d.pick()
    return Step(name, getattr(torch, name), [at, d.like(at)], arithmetic=True)


def with_number(d: Draw) -> Step:
    names = "add sub mul div fmod remainder floor_divide eq ne lt le gt ge bitwise_and rsub pow"
    name = d.rng.choice(names.split())
    number = d.rng.choice(NUMBERS)
    if name == "pow":
        number = d.rng.choice((1, 2, 3, 0.5, -1, 2.0))
    return Step(name, getattr(torch, name), [d.pick()], arithmetic=True, arguments={"other" if name != "pow" else
                "exponent": number}, quality=CLOSE if name == "pow" else EXACT)  # fmt: skip


def with_constant(d: Draw) -> Step:
    """With a tensor that the module makes of a number: 0-d, or of another dtype."""
    name = d.rng.choice("add mul sub div lt eq ge maximum remainder where".split())
    dtype, number = d.rng.choice(DTYPES), d.rng.choice(NUMBERS)
    shape = d.rng.choice(((), (1,)))
    at = d.pick()

    def call(x: Tensor) -> Tensor:
        constant = torch.full(shape, int(number) if dtype in INTEGERS else number, dtype=dtype)
        return torch.where(x == x, x, constant) if name == "where" else getattr(torch, name)(x, constant)

    return Step(f"{name}[{dtype} {number} {shape}]", call, [at], arithmetic=True)


def choice(d: Draw) -> Step:
    condition = d.pick(lambda x: x.dtype == torch.bool)
    at = d.like(condition)
    if d.rng.random() < 0.5:
        return Step("masked_fill", torch.masked_fill, [at, condition], arguments={"value": d.rng.choice(NUMBERS)})
    return Step("where", torch.where, [condition, at, d.like(at)])


def cast(d: Draw) -> Step:
    at, dtype = d.pick(), d.rng.choice(DTYPES)

    def call(x: Tensor) -> Tensor:
        if x.is_floating_point() and dtype in INTEGERS:  # beyond the dtype PyTorch's result is undefined
            limits = torch.iinfo(dtype)
            x = x.nan_to_num(0.0, 0.0, 0.0).clamp(max(limits.min, -1000), min(limits.max, 1000))
        return x.to(dtype)

    return Step(f"to {dtype}", call, [at])


def view(d: Draw) -> Step:
    at = d.pick()
    x, rng = d.values[at], d.rng
    dim, new = d.dim(at), d.dim(at, 1)
    choices: list[tuple[str, Callable[[Tensor], Tensor]]] = [
        ("flatten", lambda x: x.reshape(-1)),
        (f"unsqueeze {new}", lambda x: x.unsqueeze(new)),
        ("expand", lambda x: x.unsqueeze(0).expand(2, *x.shape)),
        ("contiguous", lambda x: x.contiguous()),
    ]
    if x.ndim:
        extent = x.shape[dim]
        order = rng.sample(range(x.ndim), x.ndim)
        choices += [
            (f"permute {order}", lambda x: x.permute(order)),
            (f"flip {dim}", lambda x: x.flip(dim)),
            (f"roll {dim}", lambda x: x.roll(1, dim)),
            (f"squeeze {dim}", lambda x: x.squeeze(dim)),
        ]
        if extent:
            start, step = rng.randrange(extent), rng.choice((1, 2))
            choices += [
                (f"slice {dim} {start}::{step}", lambda x: x.movedim(dim, 0)[start::step]),
                (f"select {dim} {start}", lambda x: x.select(dim, start)),
                (f"unfold {dim}", lambda x: x.unfold(dim, max(1, extent // 2), 1)),
                (f"chunk {dim}", lambda x: x.chunk(2, dim)[-1]),
            ]
        if x.ndim >= 2:
            choices += [("diagonal", lambda x: x.diagonal(0, 0, 1)), ("tril", torch.tril),
                        ("triu", lambda x: torch.triu(x, 1))]  # fmt: skip
    name, call = rng.choice(choices)
    return Step(name, call, [at])


def joined(d: Draw) -> Step:
    at = d.pick(lambda x: x.ndim > 0)
    other = d.pick(lambda x: x.shape == d.values[at].shape)
    dim = d.dim(at)
    if d.rng.random() < 0.3:
        return Step(f"stack {dim}", lambda x, y: torch.stack([x, y], dim), [at, other])
    reads = [at, other, at][: d.rng.choice((2, 3))]
    return Step(f"cat {dim}", lambda *xs: torch.cat(xs, dim), reads)


def enlarged(d: Draw) -> Step:
    at = d.pick(lambda x: x.ndim == 3 and x.dtype in FLOATS and x.numel() > 0)
    mode = d.rng.choice(("nearest", "nearest-exact"))
    return Step(f"interpolate {mode}", lambda x: torch.nn.functional.interpolate(x, scale_factor=2, mode=mode), [at])


def padded(d: Draw) -> Step:
    at = d.pick(lambda x: 0 < x.ndim <= 3)
    pads, value = [d.rng.choice((0, 1, 2)), d.rng.choice((0, 1))], d.rng.choice(NUMBERS)
    return Step(f"pad {pads} {value}", lambda x: torch.nn.functional.pad(x, pads, value=value), [at])


def indices(d: Draw, count: int, extent: int, distinct: bool) -> list[int]:
    if distinct:
        return d.rng.sample(range(extent), min(count, extent))
    return [d.rng.randrange(extent) for _ in range(count)]


def gathered(d: Draw) -> Step:
    at = d.pick(lambda x: x.ndim > 0 and x.numel() > 0)
    dim = d.dim(at)
    found = indices(d, 3, d.values[at].shape[dim], False)
    if d.rng.random() < 0.5:
        return Step(f"index_select {dim} {found}", lambda x: x.index_select(dim, torch.tensor(found)), [at])
    return Step(f"x[{found}]", lambda x: x.movedim(dim, 0)[torch.tensor(found)], [at])


def scattered(d: Draw) -> Step:
    """Writes by index, whose base, updates and indices may be one value."""
    at = d.pick(lambda x: x.ndim > 0 and x.numel() > 0)
    x = d.values[at]
    dim = d.dim(at)
    source = d.pick(lambda y: y.shape == x.shape and y.dtype == x.dtype)
    kind = d.rng.choice("copy add put accumulate scatter scatter_add amax fill".split())
    distinct = kind in ("copy", "put", "scatter")
    found = indices(d, x.shape[dim], x.shape[dim], distinct)
    adds = kind in ("add", "accumulate", "scatter_add") and x.is_floating_point()
    inside = d.rng.random() < 0.4

    def call(x: Tensor, y: Tensor) -> Tensor:
        index = torch.tensor(found)
        wide = index.view([-1 if n == dim % x.ndim else 1 for n in range(x.ndim)]).expand(x.shape)
        if inside:
            x = x.clone()
        mark = "_" if inside else ""
        if kind in ("put", "accumulate"):
            place = (*[slice(None)] * (dim % x.ndim), index)
            if inside:
                x.index_put_((index,), y[: len(found)] if x.ndim else y, accumulate=kind == "accumulate") if (
                    dim % x.ndim == 0
                ) else x.__setitem__(place, y)
                return x
            return x.index_put((index,), y, accumulate=kind == "accumulate") if dim % x.ndim == 0 else x
        if kind in ("copy", "add"):
            return getattr(x, f"index_{kind}{mark}")(dim, index, y)
        if kind == "fill":
            return getattr(x, f"index_fill{mark}")(dim, index, 1)
        if kind == "amax":
            return getattr(x, f"scatter_reduce{mark}")(dim, wide, y, "amax")
        return getattr(x, f"{kind}{mark}")(dim, wide, y)

    name = f"{kind}{' in place' if inside else ''} {dim} {found}"
    return Step(name, call, [at, source], quality=CLOSE if adds and x.dtype != torch.float32 else EXACT)


def in_place(d: Draw) -> Step:
    """A write into a part of a clone, perhaps of what it reads."""
    at = d.pick(lambda x: x.numel() > 0 and x.ndim > 0)
    x = d.values[at]
    dim, kind = d.dim(at), d.rng.choice("copy_ add_ mul_ maximum fill_ zero_ masked transposed".split())
    start = d.rng.randrange(x.shape[dim])
    number = d.rng.choice((0, 1, 3))

    def call(x: Tensor) -> Tensor:
        y = x.clone()
        part = y.narrow(dim, start, 1)
        other = x.narrow(dim, 0, 1)
        if kind in ("copy_", "add_", "mul_"):
            getattr(part, kind)(other)
        elif kind == "maximum":
            part.copy_(torch.maximum(part, other))
        elif kind == "fill_":
            part.fill_(number)
        elif kind == "zero_":
            part.zero_()
        elif kind == "masked":
            y.masked_fill_(x == other, number)
        elif y.ndim >= 2 and y.shape[0] == y.shape[1]:
            y.transpose(0, 1).add_(x)
        return y

    return Step(f"{kind} at {start} of {dim}", call, [at], arithmetic=kind in ("add_", "mul_", "transposed"))


def extreme(d: Draw) -> Step:
    """Reductions and orders that choose."""
    at = d.pick(lambda x: x.numel() > 0)
    dim = d.dim(at)
    name = d.rng.choice("amax amin argmax argmin any all count_nonzero sort argsort cummax".split())
    if name == "sort":
        return Step(f"sort {dim}", lambda x: x.sort(dim=dim, stable=True)[0], [at])
    if name == "argsort":
        return Step(f"argsort {dim}", lambda x: x.argsort(dim=dim, stable=True), [at])
    if name == "cummax":
        return Step(f"max {dim}", lambda x: x.max(dim)[1], [at])
    return Step(f"{name} {dim}", lambda x: getattr(torch, name)(x, dim), [at])


def summed(d: Draw) -> Step:
    at = d.pick()
    x, dim = d.values[at], d.dim(at)
    names = "sum mean var std softmax logsumexp cumsum" if is_float(x) else "sum prod cumsum"
    name = d.rng.choice(names.split())
    return Step(f"{name} {dim}", lambda x: getattr(torch, name)(x, dim), [at], CLOSE if is_float(x) else EXACT)


def function(d: Draw) -> Step:
    name = d.rng.choice("exp log sin cos tanh sigmoid erf expm1 log1p rsqrt atan".split())
    return Step(name, getattr(torch, name), [d.pick()], CLOSE, arithmetic=True)


def product(d: Draw) -> Step:
    at = d.pick(lambda x: x.ndim == 2 and is_float(x))
    other = d.pick(lambda y: y.ndim == 2 and y.dtype == d.values[at].dtype and y.shape[-1] == d.values[at].shape[-1])
    return Step("x @ y.T", lambda x, y: x @ y.transpose(0, 1), [at, other], CLOSE)


MAKERS: list[Callable[[Draw], Step]] = [
    unary, scaled, binary, with_number, with_constant, choice, cast, view, joined, padded, enlarged, gathered,
    scattered, in_place, extreme, summed, function, product,
]  # fmt: skip
WEIGHTS = [3, 2, 5, 4, 2, 2, 4, 5, 2, 1, 1, 1, 3, 2, 2, 1, 1, 1]
