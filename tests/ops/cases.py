"""Every operator with arguments to try it with: the one table behind the tests of compiler and runtime.

A case is a name, a function of tensors (or a maker of a module) and makers of its inputs. Floats are drawn in float32;
who runs a case in another dtype casts them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Make = Callable[[torch.Generator], Tensor]


@dataclass(frozen=True)
class Case:
    """``refused`` is a part of the reason why it does not compile; ``tolerance`` is relative, for float32."""

    name: str
    function: Callable[..., Any]
    inputs: tuple[Make, ...]
    module: bool = False
    refused: str | None = None
    tolerance: float = 2e-5

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        built = self.function() if self.module else _Calls(self.function)
        for name, buffer in built.named_buffers():
            if "running" in name:  # untrained statistics would hide what a batch norm does
                buffer.copy_(torch.rand(buffer.shape) + 0.5)
        for parameter in built.parameters():
            if parameter.ndim == 1:
                parameter.data = torch.randn(parameter.shape) * 0.5 + 0.7
        return built.eval()

    def make(self, seed: int = 0) -> tuple[Tensor, ...]:
        g = torch.Generator().manual_seed(seed)
        return tuple(make(g) for make in self.inputs)


class _Calls(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args)


def f(*shape: int, scale: float = 2.0) -> Make:
    return lambda g: torch.randn(shape, generator=g) * scale


def positive(*shape: int) -> Make:
    return lambda g: torch.rand(shape, generator=g) * 3 + 0.1


def unit(*shape: int) -> Make:
    return lambda g: torch.rand(shape, generator=g) * 1.8 - 0.9


def i(*shape: int, low: int = -9, high: int = 9, dtype: torch.dtype = torch.int64) -> Make:
    return lambda g: torch.randint(low, high, shape, generator=g).to(dtype)


def nonzero(*shape: int, dtype: torch.dtype = torch.int64) -> Make:
    return lambda g: (torch.randint(1, 7, shape, generator=g) * (torch.randint(0, 2, shape, generator=g) * 2 - 1)).to(dtype)


def b(*shape: int) -> Make:
    return lambda g: torch.rand(shape, generator=g) > 0.4


def strided(*shape: int) -> Make:
    """Neither dense nor at the start of its memory."""
    return lambda g: torch.randn([n * 2 + 1 for n in shape[::-1]], generator=g)[tuple(slice(1, None, 2) for _ in shape)].permute(
        *reversed(range(len(shape)))
    )


def special(*shape: int) -> Make:
    def make(g: torch.Generator) -> Tensor:
        x = torch.randn(shape, generator=g)
        flat = x.view(-1)
        for at, value in enumerate((math.nan, math.inf, -math.inf, 0.0, -0.0)):
            flat[at * 2 % flat.numel()] = value
        return x

    return make


CASES: list[Case] = []


def case(name: str, function: Callable[..., Any], *inputs: Make, **more: Any) -> None:
    CASES.append(Case(name, function, inputs, **more))


def module(name: str, make: Callable[[], nn.Module], *inputs: Make, **more: Any) -> None:
    CASES.append(Case(name, make, inputs, module=True, **more))


def _unary() -> None:
    anywhere = "abs neg sign sgn exp exp2 expm1 sin cos tan atan sinh cosh tanh asinh erf erfc sigmoid square floor ceil round trunc frac"
    for name in anywhere.split():
        case(name, getattr(torch, name), f(3, 5))
    for name in "log log2 log10 log1p sqrt rsqrt reciprocal".split():
        case(name, getattr(torch, name), positive(7, 3))
    for name in "asin acos atanh".split():
        case(name, getattr(torch, name), unit(7, 3))
    case("acosh", torch.acosh, lambda g: torch.rand(4, generator=g) + 1.5)
    for name in ("relu relu6 hardtanh leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid softplus softsign tanhshrink "
                 "softshrink hardshrink logsigmoid sigmoid").split():  # fmt: skip
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
    module("prelu one", lambda: nn.PReLU(), f(2, 3, 5))
    case("exp of integers", torch.exp, i(4, dtype=torch.int32))
    case("neg of integers", torch.neg, i(4, dtype=torch.int16))
    case("floor of integers", torch.floor, i(4))
    for name in "isnan isinf isfinite".split():
        case(name, getattr(torch, name), special(3, 5))
    case("nan_to_num", lambda x: torch.nan_to_num(x, 1.0, 9.0, -9.0), special(3, 5))
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
        case(f"to {dtype}".replace("torch.", ""), lambda x, d=dtype: x.to(d), lambda g: torch.tensor([0.0, 1.4, 2.6, 130.0, 0.1]))
        case(f"from {dtype}".replace("torch.", ""), lambda x: x.to(torch.float32) * 2, lambda g, d=dtype: torch.tensor([0, 1, 2, 130]).to(d))
    case("rounds on the way", lambda x: x.to(torch.bfloat16).to(torch.float32), f(9))
    case("type_as", lambda x, y: x.type_as(y) + y, i(5), f(5))
    case("half result", lambda x, y: x * y, lambda g: f(9)(g).half(), lambda g: f(9)(g).half())
    case("double", lambda x: x.double(), f(3), refused="float64")


def _views() -> None:
    x = f(2, 3, 4, 5)
    table: dict[str, Callable[[Tensor], Any]] = {
        "view": lambda x: x.view(6, -1), "reshape after transpose": lambda x: x.transpose(1, 2).reshape(2, 12, 5),
        "flatten": lambda x: x.flatten(1, 2), "unflatten": lambda x: x.unflatten(2, (2, -1)), "transpose": lambda x: x.transpose(-2, -1),
        "permute": lambda x: x.permute(0, 2, 3, 1), "unsqueeze": lambda x: x.unsqueeze(-1), "squeeze": lambda x: x[:1].squeeze(0),
        "squeeze all": lambda x: x[:1, :, :1].squeeze(), "expand": lambda x: x[:, :1].expand(-1, 7, -1, -1), "select": lambda x: x[:, -1],
        "slice": lambda x: x[:, 1:, ::2, -3:], "narrow": lambda x: x.narrow(3, 1, 3), "split": lambda x: x.split(2, 3),
        "split sizes": lambda x: x.split([1, 2], 1), "chunk": lambda x: x.chunk(3, 3), "unbind": lambda x: x.unbind(1),
        "flip": lambda x: x.flip(1, 3), "unfold": lambda x: x.unfold(3, 3, 2), "movedim": lambda x: x.movedim(0, 2),
        "diagonal": lambda x: x.diagonal(1, 2, 3), "roll": lambda x: x.roll((1, -2), (1, 3)), "roll flat": lambda x: x.roll(5),
        "repeat": lambda x: x.repeat(2, 1, 3, 1), "repeat more": lambda x: x[0, 0].repeat(2, 1, 2), "tile": lambda x: x.tile(2, 2),
        "repeat_interleave": lambda x: x.repeat_interleave(3, 1), "contiguous": lambda x: x.transpose(1, 2).contiguous() * 2,
        "cat of slices": lambda x: torch.cat([x[..., 2:], -x[..., :2]], -1), "stack": lambda x: torch.stack([x, x * 2, x + 1], 1),
        "channel_shuffle": lambda x: F.channel_shuffle(x.permute(0, 2, 1, 3), 2), "hstack": lambda x: torch.hstack([x, x]),
        "transpose of extent 1": lambda x: x[:, :1].transpose(0, 2), "view and relu": lambda x: F.relu(x.transpose(1, 3)).reshape(2, -1),
        "diff": lambda x: x.diff(), "outputs shared": lambda x: (x + 1, (x + 1).view(-1)), "identity": lambda x: x,
        "input twice": lambda x: (x, x.view(-1)), "cat used twice": lambda x: (lambda y: torch.cat([y, torch.cat([y, x], 1)], 1))(x.relu()),
    }  # fmt: skip
    for name, function in table.items():
        case(name, function, x)
    case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), f(2, 8, 3, 5))
    case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), f(2, 2, 4, 6))
    case("cat", lambda x, y, z: torch.cat([x, y, z], 1), f(2, 3, 5), f(2, 1, 5), f(2, 4, 5))
    case("cat of made things", lambda x, y: torch.cat([x.relu(), y.exp(), x * 2], 0), f(2, 5), f(3, 5))
    case("cat with an empty one", lambda x, y: torch.cat([x, y], 0), f(0), f(3, 5))
    case("cat of dtypes", lambda x, y: torch.cat([x, y]), f(3), i(4))
    case("cat then slices", lambda x, y: torch.cat([x.relu(), y.relu()], 1)[:, 1:4] * x.relu()[:, :1], f(2, 3), f(2, 2))
    case("meshgrid", lambda x, y: torch.meshgrid(x, y, indexing="ij"), f(3), f(4))
    case("broadcast_to", lambda x: x.broadcast_to(4, 3), f(3))
    case("im2col", lambda x: F.unfold(x, (2, 3), padding=1, stride=2), f(2, 3, 5, 7))
    case("rank 0", lambda x: x.view(()) + x.sum(), f(1))


def _matmuls() -> None:
    shapes = [((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)),
              ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (7, 4, 5)), ((2, 3, 4), (4,)), ((4,), (2, 4, 5)), ((0, 4), (4, 5)), ((3, 0), (0, 5))]  # fmt: skip
    for x, y in shapes:
        case(f"matmul {x} {y}", torch.matmul, f(*x), f(*y))
    case("matmul transposed", lambda x, y: x @ y.transpose(-2, -1) / math.sqrt(8), f(2, 3, 5, 8), f(2, 3, 7, 8))
    case("matmul strided", torch.matmul, strided(3, 5), strided(5, 7))
    case("bmm", torch.bmm, f(2, 3, 4), f(2, 4, 5))
    case("addmm", torch.addmm, f(5), f(3, 4), f(4, 5))
    case("addmm scaled", lambda s, x, y: torch.addmm(s, x, y, beta=0.5, alpha=2), f(3, 5), f(3, 4), f(4, 5))
    case("baddbmm", lambda s, x, y: torch.baddbmm(s, x, y, alpha=0.3), f(2, 3, 5), f(2, 3, 4), f(2, 4, 5))
    case("mv", torch.mv, f(3, 4), f(4))
    case("dot", torch.dot, f(4), f(4))
    for equation, *dims in (("ij,jk->ik", (3, 4), (4, 5)), ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)), ("i,j->ij", (3,), (4,)),
                            ("bij,bjk->ki", (2, 3, 4), (2, 4, 5))):  # fmt: skip
        case(f"einsum {equation}", lambda *t, e=equation: torch.einsum(e, *t), *(f(*d) for d in dims))
    for bias in (True, False):
        module(f"linear bias={bias}", lambda b=bias: nn.Linear(7, 5, bias=b), f(2, 3, 7))
    module("linear of a vector", lambda: nn.Linear(7, 5), f(7))
    module("linear relu residual", lambda: _Residual(), f(2, 3, 7))
    q, k = f(2, 4, 5, 8), f(2, 4, 7, 8)
    case("attention", F.scaled_dot_product_attention, q, k, k)
    case("attention causal", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), q, q, q)
    case("attention mask", lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m), q, k, k, f(5, 7))
    case("attention bool mask", lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m), q, k, k, lambda g: torch.ones(5, 7).tril().bool().logical_and(torch.arange(5)[:, None] != 2))
    case("attention scale", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.2), q, k, k)
    case("attention grouped", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True), q, f(2, 2, 7, 8), f(2, 2, 7, 8))
    case("attention repeated heads", lambda q, k, m: F.scaled_dot_product_attention(q, _repeat_kv(k), _repeat_kv(k), attn_mask=m), q, f(2, 2, 7, 8), f(2, 1, 5, 7))
    case("attention rank 3", F.scaled_dot_product_attention, f(2, 5, 8), f(2, 7, 8), f(2, 7, 3))


def _repeat_kv(x: Tensor) -> Tensor:
    n, h, s, d = x.shape
    return x[:, :, None].expand(n, h, 2, s, d).reshape(n, h * 2, s, d)


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(7, 9), nn.Linear(9, 7)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(x)) * 0.5)


def _convs() -> None:
    for name, make, shape in (
        ("conv2d", lambda: nn.Conv2d(3, 4, 3), (2, 3, 7, 8)),
        ("conv2d all", lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (2, 3), groups=2, bias=False), (2, 4, 9, 11)),
        ("conv2d depthwise", lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4), (1, 4, 5, 6)),
        ("conv2d same", lambda: nn.Conv2d(3, 4, (4, 3), padding="same"), (1, 3, 6, 5)),
        ("conv2d valid", lambda: nn.Conv2d(3, 4, 2, padding="valid"), (1, 3, 6, 5)),
        ("conv2d unbatched", lambda: nn.Conv2d(3, 4, 3), (3, 6, 5)),
        ("conv2d reflect", lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (1, 3, 6, 5)),
        ("conv1d", lambda: nn.Conv1d(3, 4, 3, 2, 1), (2, 3, 9)),
        ("conv3d", lambda: nn.Conv3d(2, 3, 2, padding=1), (1, 2, 3, 4, 5)),
        ("conv_transpose1d", lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2), (2, 4, 5)),
        ("conv_transpose2d", lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1), (2, 3, 4, 5)),
        ("conv_transpose2d dilated", lambda: nn.ConvTranspose2d(4, 4, 3, 2, 0, groups=2, dilation=2), (1, 4, 4, 5)),
        ("conv_transpose3d", lambda: nn.ConvTranspose3d(2, 3, 2, 2), (1, 2, 2, 3, 2)),
    ):
        module(name, make, f(*shape))
    for bias in (True, False):
        module(f"conv bn relu bias={bias}", lambda b=bias: nn.Sequential(nn.Conv2d(3, 4, 3, bias=b), nn.BatchNorm2d(4), nn.ReLU()), f(2, 3, 6, 7))
    module("conv_transpose bn", lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), f(1, 4, 4, 5))
    module("conv shared by bn", lambda: _SharedConv(), f(1, 3, 5, 5))
    module("conv relu6 residual", lambda: _ConvResidual(), f(2, 3, 5, 6))


class _SharedConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) + y


class _ConvResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.scale = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.scale(x.mean((2, 3)))[:, :, None, None].sigmoid()
        return F.relu6(self.bn(self.conv(x)) * gate + x)


def _pools() -> None:
    x = f(2, 3, 9, 7)
    table: dict[str, Callable[[Tensor], Any]] = {
        "max_pool2d": lambda x: F.max_pool2d(x, 3, 2, 1), "max_pool2d dilated": lambda x: F.max_pool2d(x, 2, 1, 0, 2),
        "max_pool2d ceil": lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True), "max_pool2d indices": lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True),
        "avg_pool2d": lambda x: F.avg_pool2d(x, 3, 2, 1), "avg_pool2d no padding": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        "avg_pool2d ceil": lambda x: F.avg_pool2d(x, (2, 3), 2, (0, 1), ceil_mode=True), "avg_pool2d divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
        "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (4, 3)), "adaptive_avg_pool2d 1": lambda x: F.adaptive_avg_pool2d(x, 1),
        "adaptive_avg_pool2d up": lambda x: F.adaptive_avg_pool2d(x, (11, None)), "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 4),
        "adaptive_max_pool2d indices": lambda x: F.adaptive_max_pool2d(x, 4, return_indices=True), "unbatched": lambda x: F.max_pool2d(x[0], 2),
    }  # fmt: skip
    for name, function in table.items():
        case(name, function, x)
    case("max_pool2d special", lambda x: F.max_pool2d(x, 2), special(1, 1, 4, 6))
    case("max_pool1d", lambda x: F.max_pool1d(x, 3, 2), f(2, 3, 9))
    case("max_pool3d", lambda x: F.max_pool3d(x, 2), f(1, 2, 4, 5, 6))
    case("avg_pool1d", lambda x: F.avg_pool1d(x, 3, 2, 1), f(2, 3, 9))
    case("avg_pool3d", lambda x: F.avg_pool3d(x, 2), f(1, 2, 4, 5, 6))
    case("adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x, 4), f(2, 3, 9))
    case("adaptive_avg_pool3d", lambda x: F.adaptive_avg_pool3d(x, 2), f(1, 2, 3, 5, 4))
    case("adaptive_max_pool1d", lambda x: F.adaptive_max_pool1d(x, 4), f(2, 3, 9))


def _norms() -> None:
    module("batch_norm", lambda: nn.BatchNorm2d(3), f(2, 3, 4, 5))
    module("batch_norm plain", lambda: nn.BatchNorm2d(3, affine=False), f(2, 3, 4, 5))
    module("batch_norm of rows", lambda: nn.BatchNorm1d(3), f(4, 3))
    module("batch_norm of the batch", lambda: nn.BatchNorm2d(3, track_running_stats=False), f(2, 3, 4, 5))
    module("layer_norm", lambda: nn.LayerNorm((4, 5)), f(2, 3, 4, 5))
    module("layer_norm no bias", lambda: nn.LayerNorm(5, bias=False), f(3, 5))
    module("layer_norm plain", lambda: nn.LayerNorm(5, elementwise_affine=False), f(3, 5))
    module("layer_norm channels first", lambda: _ChannelsFirst(), f(2, 5, 3, 4))
    module("group_norm", lambda: nn.GroupNorm(2, 6), f(2, 6, 5))
    module("instance_norm", lambda: nn.InstanceNorm2d(3, affine=True), f(2, 3, 4, 5))
    module("instance_norm plain", lambda: nn.InstanceNorm2d(3), f(2, 3, 4, 5))
    module("instance_norm running", lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True), f(2, 3, 4, 5))
    module("rms_norm", lambda: nn.RMSNorm(5), f(3, 5))
    module("rms_norm eps", lambda: nn.RMSNorm(5, eps=0.1), f(3, 5, scale=0.3))
    case("rms by hand", lambda x, w: w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)), f(2, 3, 8), f(8))
    for name in ("softmax", "log_softmax"):
        for dim in (0, 1, -1):
            case(f"{name} {dim}", lambda x, n=name, d=dim: getattr(F, n)(x, d), f(3, 4, 5))
    case("softmax float of half", lambda x: F.softmax(x, -1, dtype=torch.float32).to(torch.float16), lambda g: f(3, 5)(g).half())
    case("softmin", lambda x: F.softmin(x, 1), f(3, 4))
    case("normalize", lambda x: F.normalize(x, dim=1), f(3, 4))


class _ChannelsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _reductions() -> None:
    for name in "sum mean amax amin var std".split():
        for dim in (1, (0, 2), (-1,)):
            case(f"{name} {dim}", lambda x, n=name, d=dim: getattr(torch, n)(x, dim=d, keepdim=d == 1), f(3, 4, 5))
        case(f"{name} all", getattr(torch, name), f(3, 4, 5))
    case("var biased", lambda x: x.var(1, correction=0), f(3, 4))
    case("var_mean", lambda x: torch.var_mean(x, 1), f(3, 4))
    for name in "max min argmax argmin".split():
        case(name, lambda x, n=name: getattr(torch, n)(x), f(3, 4))
        case(f"{name} dim", lambda x, n=name: getattr(torch, n)(x, dim=1), f(3, 4, 5))
        case(f"{name} keepdim", lambda x, n=name: getattr(torch, n)(x, dim=-1, keepdim=True), i(3, 4, low=0, high=3))
    case("argmax special", lambda x: x.argmax(1), special(2, 7))
    case("amax special", lambda x: x.amax(1), special(2, 7))
    case("sum integers", lambda x: x.sum(1), i(3, 4, dtype=torch.int32))
    case("sum bools", lambda x: x.sum(), b(3, 4))
    case("sum to float", lambda x: x.sum(0, dtype=torch.float32), i(3, 4))
    case("mean to float", lambda x: x.mean(0, dtype=torch.float32), i(3, 4))
    case("sum of none", lambda x: x.sum(0), f(0, 4))
    case("prod", lambda x: x.prod(1), f(3, 4))
    case("prod integers", lambda x: x.prod(), i(5, low=1, high=4))
    for name in ("any", "all"):
        case(name, getattr(torch, name), b(3, 4))
        case(f"{name} dim", lambda x, n=name: getattr(torch, n)(x, 1), i(3, 4, low=0, high=2))
    for order in (1, 2, 3, 0, math.inf, -math.inf):
        case(f"vector_norm {order}", lambda x, o=order: torch.linalg.vector_norm(x, o, 1), f(3, 4))
    case("norm", lambda x: x.norm(), f(3, 4))
    case("logsumexp", lambda x: x.logsumexp(1), f(3, 4))
    case("logsumexp special", lambda x: x.logsumexp((0, 1)), lambda g: torch.tensor([[math.inf, 1.0]]))
    case("count_nonzero", lambda x: x.count_nonzero(1), i(3, 4, low=0, high=2))
    case("cumsum", lambda x: x.cumsum(1), f(3, 4, 2))
    case("cumsum integers", lambda x: x.cumsum(-1), i(3, 4, dtype=torch.int32))
    case("cumsum bools", lambda x: x.cumsum(0), b(7))
    case("cumprod", lambda x: x.cumprod(0), f(3, 4))
    for descending in (False, True):
        case(f"sort descending={descending}", lambda x, d=descending: x.sort(1, descending=d), f(3, 5, 2))
        case(f"sort stable descending={descending}", lambda x, d=descending: torch.sort(x, stable=True, descending=d), i(3, 9, low=0, high=3))
    case("argsort", lambda x: x.argsort(0), f(5, 3))
    case("topk", lambda x: x.topk(3, 1), f(2, 7, 3))
    case("topk smallest", lambda x: x.topk(2, largest=False), f(2, 7))


def _indexing() -> None:
    x = f(4, 5, 6)
    idx = i(3, low=0, high=4)
    case("embedding", lambda w, n: F.embedding(n, w), f(9, 4), i(2, 3, low=0, high=9))
    module("embedding module", lambda: nn.Embedding(9, 4, padding_idx=0), i(2, 3, low=0, high=9))
    case("embedding int32", lambda w, n: F.embedding(n, w), f(9, 4), i(2, low=0, high=9, dtype=torch.int32))
    case("index_select", lambda x, n: x.index_select(1, n), x, idx)
    case("gather", lambda x, n: x.gather(1, n), x, i(3, 2, 6, low=0, high=5))
    case("take_along_dim", lambda x, n: torch.take_along_dim(x, n, 1), x, i(1, 2, 6, low=0, high=5))
    case("take", torch.take, x, i(3, 2, low=0, high=120))
    case("index", lambda x, n: x[n], x, idx)
    case("index negative", lambda x, n: x[n], x, i(3, low=-4, high=4))
    case("index middle", lambda x, n: x[:, n], x, idx)
    case("index last", lambda x, n: x[..., n], x, i(2, 3, low=0, high=6))
    case("index two", lambda x, n, m: x[n, m], x, idx, i(2, 1, low=0, high=5))
    case("index apart", lambda x, n, m: x[n, :, m], x, idx, idx)
    case("index adjacent", lambda x, n, m: x[:, n, m], x, idx, idx)
    case("index constant", lambda x: x[:, [0, 3, 1]], x)
    case("index_copy", lambda x, n, y: x.index_copy(1, n, y), x, lambda g: torch.tensor([4, 1]), f(4, 2, 6))
    case("index_add", lambda x, n, y: x.index_add(1, n, y, alpha=2), x, lambda g: torch.tensor([4, 1, 4]), f(4, 3, 6))
    case("index_fill", lambda x, n: x.index_fill(1, n, 3.0), x, idx)
    case("index_put", lambda x, n, y: x.index_put((n,), y), x, lambda g: torch.tensor([3, -4]), f(5, 6))
    case("index_put adds", lambda x, n, y: x.index_put((n,), y, accumulate=True), x, lambda g: torch.tensor([3, 3]), f(2, 5, 6))
    case("scatter", lambda x, n, y: x.scatter(1, n, y), x, lambda g: torch.tensor([[[1], [3]], [[0], [2]]]), f(4, 3, 2))
    case("scatter value", lambda x, n: x.scatter(1, n, 7.0), x, i(2, 3, 4, low=0, high=5))
    case("scatter_add", lambda x, n, y: x.scatter_add(0, n, y), f(4, 5), i(6, 5, low=0, high=4), f(6, 5))
    for how in ("sum", "prod", "amax", "amin"):
        case(f"scatter_reduce {how}", lambda x, n, y, h=how: x.scatter_reduce(0, n, y, h), f(4, 5), i(6, 5, low=0, high=4), f(6, 5))
    case("scatter_reduce mean", lambda x, n, y: x.scatter_reduce(0, n, y, "mean"), f(4), i(6, low=0, high=4), f(6), refused="mean")
    case("select_scatter", lambda x, y: x.select_scatter(y, 1, -2), x, f(4, 6))
    case("slice_scatter", lambda x, y: x.slice_scatter(y, 1, 0, 5, 2), x, f(4, 3, 6))
    case("assign a slice", _assign, x, f(4, 2, 6))


def _assign(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, 1:3] = y
    x[0, 0] += 1
    return x


def _makers() -> None:
    case("arange", lambda x: x + torch.arange(5), f(3, 5))
    case("arange float", lambda x: x + torch.arange(0.5, 3.0, 0.5), f(5))
    case("arange down", lambda x: x + torch.arange(9, 0, -2), i(5))
    case("arange alone", lambda x: (x, torch.arange(4)), f(2))
    case("linspace", lambda x: x * torch.linspace(-1, 1, 7), f(7))
    case("full", lambda x: x + torch.full((2, 5), 3.5), f(5))
    case("zeros ones", lambda x: torch.cat([torch.zeros(2, 5), x, torch.ones(1, 5)]), f(3, 5))
    case("like", lambda x: torch.zeros_like(x) + torch.ones_like(x, dtype=torch.int32) + torch.full_like(x, 2), f(3))
    case("new", lambda x: x.new_zeros(3) + x.new_full((2, 3), 2) + x.new_ones(()), f(3))
    case("eye", lambda x: x + torch.eye(3, 4), f(3, 4))
    case("constant", lambda x: x * torch.tensor([1.0, 2.0, 3.0]), f(3))
    case("constant scalar", lambda x: x * torch.tensor(2.5), f(3))
    case("constant double scalar", lambda x: x * torch.tensor(2.5, dtype=torch.float64), f(3))
    for mode in ("reflect", "replicate", "circular"):
        case(f"pad {mode}", lambda x, m=mode: F.pad(x, (2, 1, 1, 2), m), f(2, 3, 4, 5))
    case("pad", lambda x: F.pad(x, (1, 2, 0, 1), value=1.5), f(3, 4))
    case("pad -inf", lambda x: F.pad(x, (1, 1), value=-math.inf), f(3, 4))
    case("pad negative", lambda x: F.pad(x, (-1, 2, 1, -1)), f(3, 4))
    case("pad integers", lambda x: F.pad(x, (1, 2)), i(3, 4))
    for mode, align in (("nearest", None), ("nearest-exact", None), ("bilinear", False), ("bilinear", True), ("bicubic", False), ("bicubic", True)):
        case(f"interpolate {mode} {align} size", lambda x, m=mode, a=align: F.interpolate(x, (7, 3), mode=m, align_corners=a), f(2, 3, 5, 6))
        case(f"interpolate {mode} {align} scale", lambda x, m=mode, a=align: F.interpolate(x, scale_factor=(1.7, 0.6), mode=m, align_corners=a), f(2, 3, 5, 6))
    case("interpolate linear", lambda x: F.interpolate(x, 9, mode="linear"), f(2, 3, 5))
    case("interpolate trilinear", lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), f(1, 2, 3, 2, 3))
    case("interpolate nearest 1d", lambda x: F.interpolate(x, scale_factor=2.0), f(2, 3, 5))
    case("rotary", lambda p, q: q * torch.cos(p[:, None].float() @ torch.tensor([[1.0, 0.1]])).repeat(1, 2), i(5, low=0, high=50), f(5, 4))


for _family in (_unary, _binary, _casts, _views, _matmuls, _convs, _pools, _norms, _reductions, _indexing, _makers):
    _family()
