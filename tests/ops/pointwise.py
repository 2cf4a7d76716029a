"""Elementwise operators and conversions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from .making import b, case, f, i, module, nonzero, positive, special, strided, unit


def _unary() -> None:
    anywhere = "abs neg sign sgn exp exp2 expm1 sin cos tan atan sinh cosh tanh asinh erf erfc sigmoid "
    anywhere += "square floor ceil round trunc frac"
    for name in anywhere.split():
        case(name, getattr(torch, name), f(3, 5))
    for name in "log log2 log10 log1p sqrt rsqrt reciprocal".split():
        case(name, getattr(torch, name), positive(7, 3))
    for name in "asin acos atanh".split():
        case(name, getattr(torch, name), unit(7, 3))
    case("acosh", torch.acosh, lambda g: torch.rand(4, generator=g) + 1.5)
    for name in ("relu relu6 hardtanh leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid softplus "
                 "softsign tanhshrink softshrink hardshrink logsigmoid sigmoid").split():  # fmt: skip
        case(name, getattr(F, name), f(2, 3, 5))
    case("relu special", F.relu, special(3, 5))
    case("gelu tanh", lambda x: F.gelu(x, approximate="tanh"), f(2, 5))
    case("elu alpha", lambda x: F.elu(x, 1.7), f(2, 5))
    case("celu alpha", lambda x: F.celu(x, 1.7), f(2, 5))
    case("softplus beta", lambda x: F.softplus(x, 2.0, 3.0), f(2, 5))
    case("threshold", lambda x: F.threshold(x, 0.3, -2.0), f(2, 5))
    case("hardtanh limits", lambda x: F.hardtanh(x, -0.5, 2.5), f(2, 5))
    case("leaky_relu slope", lambda x: F.leaky_relu(x, 0.3), f(2, 5))
    case("glu", lambda x: F.glu(x, 1), f(2, 6, 3))
    case("logit", torch.logit, lambda g: torch.rand(5, generator=g) * 0.8 + 0.1)
    module("prelu", lambda: nn.PReLU(3), f(2, 3, 5))
    module("prelu one", nn.PReLU, f(2, 3, 5))
    case("exp of integers", torch.exp, i(4, dtype=torch.int32))
    case("neg of integers", torch.neg, i(4, dtype=torch.int16))
    case("floor of integers", torch.floor, i(4))
    for name in "isnan isinf isfinite".split():
        case(name, getattr(torch, name), special(3, 5))
    case("nan_to_num", lambda x: torch.nan_to_num(x, 1.0, 9.0, -9.0), special(3, 5))
    case("nan_to_num of nan alone", lambda x: torch.nan_to_num(x).clamp(-9, 9), special(3, 5))
    case("nan_to_num to infinities", lambda x: torch.nan_to_num(x, math.inf, 9.0, math.inf), special(3, 5))
    case("softshrink special", lambda x: F.softshrink(x, 0.25), special(3, 5))
    case("softshrink of nothing", lambda x: F.softshrink(x, 0.0), special(3, 5))
    case("hardshrink special", lambda x: F.hardshrink(x, 0.25), special(3, 5))
    case("strided relu", F.relu, strided(3, 5))
    case("empty relu", F.relu, f(0, 5))
    case("scalar relu", F.relu, f())
    case("dropout", lambda x: F.dropout(x, 0.5, False), f(3))


def _binary() -> None:
    for name in "add sub mul div maximum minimum atan2 fmod remainder hypot logaddexp copysign fmax fmin".split():
        case(name, getattr(torch, name), f(2, 3, 5), positive(3, 1))
    for name in "add sub mul div floor_divide remainder fmod maximum minimum".split():
        case(f"{name} integers", getattr(torch, name), i(3, 5), nonzero(5))
        case(f"{name} int32", getattr(torch, name), i(3, 5, dtype=torch.int32), nonzero(5, dtype=torch.int32))
    for mode in ("floor", "trunc"):
        case(f"div {mode}", lambda x, y, m=mode: torch.div(x, y, rounding_mode=m), f(4, 5), positive(5))
        case(f"div {mode} integers", lambda x, y, m=mode: torch.div(x, y, rounding_mode=m), i(4, 5), nonzero(5))
    case("div scalar", lambda x: x / 4.0, f(3))
    case("div integer by scalar", lambda x: x / 4, i(3))
    case("floor_divide float", torch.floor_divide, f(9), positive(9))
    case("add alpha", lambda x, y: torch.add(x, y, alpha=2.5), f(3), f(3))
    case("add integer alpha", lambda x, y: torch.add(x, y, alpha=3), i(3), i(3))
    case(
        "short rows of orders",
        lambda x, y, z: x.permute(2, 0, 3, 1) * y + z,
        f(2, 3, 40, 3),
        f(2, 3, 3),
        f(40, 2, 3, 1),
    )
    case(
        "short rows of integers",
        lambda x, y: (x.transpose(0, 2) + y, x.transpose(0, 2) > y),
        i(3, 2, 90, dtype=torch.int16),
        i(90, 2, 1, dtype=torch.int16),
    )
    case("short rows copied", lambda x: x.permute(3, 1, 2, 0).contiguous(), f(2, 3, 2, 300))
    case(
        "steps joined",
        lambda x, y: (
            torch.where(x - y > 0.25, x * y, x),
            (x - y) * (x - y),
            x - (x + y) * y,
            (x / y).abs(),
            torch.where((x * y).isinf(), y, x + y + x),
        ),
        special(4, 9),
        special(9),
    )
    case("add scalar", lambda x: x + 1, i(3, dtype=torch.int32))
    case("add float to integers", lambda x: x + 1.5, i(3, dtype=torch.int32))
    case("rsub", lambda x: 1.0 - x, f(3))
    case("add bool", lambda x, y: x + y, b(5), b(5))
    case("mul bool", lambda x, y: x * y, b(5), f(5))
    case("uint8 wraps", lambda x: (x + 200) // 3, i(5, low=0, high=255, dtype=torch.uint8))
    case("int8 chain wraps", lambda x: (x * 7 + 100).to(torch.int32) + 1, i(9, low=-128, high=127, dtype=torch.int8))
    case("mixed integers", torch.add, i(4, dtype=torch.int32), i(3, 4))
    case("integers and floats", torch.mul, i(4), f(3, 4))
    case("0-d integer and float", lambda x, y: x * y, f(4), i())
    case("0-d float and integers", lambda x, y: x * y, i(4), f())
    for power in (0.5, -0.5, 1, 2, 3, -1, 2.5, 4):
        case(f"pow {power}", lambda x, p=power: torch.pow(x, p), positive(5))
    case("pow tensors", torch.pow, positive(3, 4), f(4, scale=0.7))
    case("pow scalar base", lambda x: torch.pow(2.0, x), f(4))
    case("pow integers", lambda x: x**3, i(5))
    for name in "eq ne lt le gt ge".split():
        case(name, getattr(torch, name), i(3, 4, low=0, high=3), i(4, low=0, high=3))
        case(f"{name} scalar", lambda x, n=name: getattr(torch, n)(x, 0.5), f(7))
    case("eq bool", torch.eq, b(5), b(5))
    case("gt fraction among integers", lambda x: x > 0.5, i(5))
    for name in "logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor".split():
        case(name, getattr(torch, name), b(3, 5), b(5))
    for name in "bitwise_and bitwise_or bitwise_xor".split():
        case(f"{name} integers", getattr(torch, name), i(3, 5), i(5))
    case("bitwise_not", torch.bitwise_not, i(5))
    case("logical_not", torch.logical_not, f(5))
    case("invert", lambda x: ~x, b(5))
    case("logical_and of floats", torch.logical_and, lambda g: torch.tensor([0.0, 1.0, -2.0]), f(3))
    case("shifts", lambda x: (x << 2) + (x >> 1), i(5, low=0))
    case("where", torch.where, b(3, 5), f(5), f(3, 1))
    case("where scalar", lambda c, x: torch.where(c, x, 0.0), b(3, 5), f(5))
    case("where integer scalar", lambda c, x: torch.where(c, x, 3), b(3, 5), i(5))
    case("masked_fill", lambda x, m: x.masked_fill(m, -math.inf), f(2, 5), b(5))
    case("masked_fill integers", lambda x, m: x.masked_fill(m, 7), i(2, 5), b(5))
    case("clamp", lambda x: x.clamp(-1, 0.5), f(9))
    case("clamp min", lambda x: x.clamp(min=0), i(9))
    case("clamp max tensor", lambda x, t: x.clamp(max=t), f(9), f(9))
    case("clamp tensors", lambda x, lo, hi: x.clamp(lo, hi), f(9), f(9), positive(9))
    case("lerp", torch.lerp, f(5), f(5), unit(5))
    case("lerp scalar", lambda x, y: torch.lerp(x, y, 0.7), f(5), f(5))
    case("addcmul", lambda x, y, z: torch.addcmul(x, y, z, value=0.5), f(3, 5), f(5), f(3, 1))
    case("addcdiv", lambda x, y, z: torch.addcdiv(x, y, z, value=0.5), f(3, 5), f(5), positive(3, 1))
    case("tril", torch.tril, f(4, 5))
    case("triu", lambda x: torch.triu(x, 1), f(2, 5, 5))
    case("xlogy", torch.xlogy, lambda g: torch.tensor([0.0, 1.0, 2.0]), positive(3))


def _casts() -> None:
    dtypes = (torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.uint8, torch.bool)
    for dtype in dtypes:
        case(
            f"to {dtype}".replace("torch.", ""),
            lambda x, d=dtype: x.to(d),
            lambda g: torch.tensor([0.0, 1.4, 2.6, 130.0, 0.1]),
        )
        case(
            f"from {dtype}".replace("torch.", ""),
            lambda x: x.to(torch.float32) * 2,
            lambda g, d=dtype: torch.tensor([0, 1, 2, 130]).to(d),
        )
    case("rounds on the way", lambda x: x.to(torch.bfloat16).to(torch.float32), f(9))
    case("type_as", lambda x, y: x.type_as(y) + y, i(5), f(5))
    case("half result", lambda x, y: x * y, lambda g: f(9)(g).half(), lambda g: f(9)(g).half())
    case("double", lambda x: x.double(), f(3), refused="float64")


for _family in (_unary, _binary, _casts):
    _family()
