"""Quantised weights: of products, of embeddings, and of other layers, which read their numbers."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed
import torch.nn.functional as F
from npu_base.quantization import Scheme
from torch import Tensor, nn

from tests.support.torchao_ops import dequantize_affine

from .making import Make, f, i, module


def scheme(text: str) -> Scheme:
    """Bits (with "s": signed), the group, the offset, and the dtypes of scales and offsets: "4s/32/point/f/b"; or with
    units, their elements and dtype: "4/32/bias/256h"."""
    dtypes = {"f": "float32", "h": "float16", "b": "bfloat16"}
    bits, group, offset, *types = text.split("/")
    if types and types[0][0].isdigit():
        unit, of_unit = int(types[0][:-1]), dtypes[types[0][-1]]
        return Scheme(int(bits.rstrip("s")), int(group), offset, bits.endswith("s"), "int8", "int8", unit, of_unit)
    scale, shift = (dtypes[t] for t in (*types, *"hh"[len(types) :]))
    return Scheme(int(bits.rstrip("s")), int(group), offset, bits.endswith("s"), scale, shift)


def linear(text: str, rows: tuple[int, ...], depth: int, columns: int, bias: bool = True, order: str = "") -> None:
    name = f"quantized linear {text} {'x'.join(map(str, rows))}x{depth}x{columns}" + " in an order" * bool(order)
    how = replace(scheme(text), order=order)
    module(name, lambda: nn.Linear(depth, columns, bias), f(*rows, depth), scheme=how)


def _schemes() -> None:
    """Every kind of integers, groups and offsets; few rows and many."""
    offsets = ("none", "point", "bias")
    kinds = itertools.product(("4", "4s", "8", "8s"), (32, 64, 128, 0), offsets)
    for at, (bits, group, offset) in enumerate(kinds):
        linear(f"{bits}/{group}/{offset}", (20 if at % 4 == 1 else 3,), 256, 37)
    for bits, offset in itertools.product(("6", "6s"), offsets):
        for group in (16, 32, 64, 128, 0):
            linear(f"{bits}/{group}/{offset}", (2,), 256, 37)
    for bits in (2, 3):
        linear(f"{bits}/32/bias", (2,), 96, 18)
    for types in ("f/f", "f/b", "b/b", "b/f", "h/b"):
        linear(f"4/64/bias/{types}", (2,), 128, 40)
        linear(f"8/32/point/{types}", (2,), 128, 40)


def _shapes() -> None:
    for rows in (*range(1, 10), 33):
        linear("4/32/bias", (rows,), 320, 50)
        linear("8/64/none", (rows,), 192, 34, bias=False)
    for depth in (1, 2, 7, 31, 33, 97, 160, 300, 1025):
        linear("4/32/bias", (2,), depth, 19)
        linear("8s/128/point", (2,), depth, 19)
        linear("4s/0/none", (11,), depth, 19)
    for group in (1, 5, 16, 48, 96, 500):
        linear(f"4/{group}/bias", (3,), 240, 21)
        linear(f"8/{group}/point", (12,), 240, 21)
    for text in ("2s/32/point", "3s/64/none", "6s/0/bias", "6/16/point"):
        linear(text, (5,), 150, 23)
        linear(text, (18,), 150, 23)
    for rows in (*range(1, 10), 17, 70):  # odd depths, a last group that is shorter
        linear("4s/64/point", (rows,), 227, 29, bias=False)
        linear("8/32/bias", (rows,), 227, 29)
        linear("6s/16/none", (rows,), 224, 29)
        linear("6/32/bias", (rows,), 227, 29)
    linear("4/32/bias", (3,), 64, 0)
    linear("4/32/bias", (3,), 0, 5)
    linear("8/0/none", (3,), 0, 5)
    linear("4/32/bias", (0,), 64, 5)
    linear("4/32/bias", (2, 3), 64, 5)
    linear("8/32/bias", (2, 1, 5), 64, 600)
    linear("4/32/none", (4,), 64, 1)
    linear("4/64/bias", (2,), 4096, 70)
    linear("8/0/none", (1,), 5000, 20)


def _units() -> None:
    """As K-quants of GGUF have them, and other ones."""
    for rows in (1, 2, 3, 5, 8, 9, 33):
        linear("4/32/bias/256h", (rows,), 768, 37)
        linear("6s/16/none/256h", (rows,), 512, 37)
        linear("8/32/point/64f", (rows,), 227, 29)
    for unit in (32, 64, 96, 128, 256, 512):
        for rows in (1, 4, 12):
            linear(f"4s/32/bias/{unit}b", (rows,), 480, 21)
            linear(f"6/16/point/{unit}f", (rows,), 480, 21, bias=False)
    linear("3/5/bias/15h", (2,), 64, 18)
    linear("4/32/bias/256h", (2, 3), 64, 5)
    linear("4/32/bias/256h", (3,), 0, 5)


def _orders() -> None:
    """Columns that are stored in another order."""
    for text in ("4/32/point", "8/128/none", "4s/0/none", "6/16/bias", "3/32/point"):
        for rows in (1, 2, 9, 33):
            linear(text, (rows,), 256, 37, order="columns", bias=rows != 2)
    linear("4/32/bias", (2, 3), 227, 29, order="columns")
    linear("4/32/bias", (3,), 0, 5, order="columns")
    linear("4/32/bias", (0,), 64, 5, order="columns")
    linear("8/32/bias", (3,), 64, 0, order="columns")
    linear("4/32/bias", (3,), 1, 4, order="columns")


class Attention(nn.Module):
    """Products that are merged, with epilogues."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(64, 64, bias), nn.Linear(64, 32, bias), nn.Linear(64, 32, bias)
        self.gate, self.up = nn.Linear(64, 96, bias), nn.Linear(64, 96, bias)
        self.down = nn.Linear(96, 64, bias)

    def forward(self, x: Tensor) -> Any:
        q, k, v = self.q(x), self.k(x), self.v(x)
        x = x + q * torch.cat([k, v], -1)
        x = F.rms_norm(x, [64])
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


class Normed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, 40)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x))  # type: ignore[no-any-return]


class Tied(nn.Module):
    """A table of an embedding that is the weight of the head, of which one row is needed."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(40, 64), nn.Linear(64, 40, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.table(ids)))[:, -1]  # type: ignore[no-any-return]


class Batched(nn.Module):
    """A product of some rows of each batch, which are not evenly spaced."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 23)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x[:, 1:4])  # type: ignore[no-any-return]


class Square(nn.Module):
    """Products of the same rows, gated ones among them, whose weights have one order."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.gate, self.up = (nn.Linear(width, width, i < 2) for i in range(4))

    def forward(self, x: Tensor) -> Any:
        return self.q(x) + torch.tanh(self.k(x)), F.silu(self.gate(x)) * self.up(x)


class Others(nn.Module):
    """Readers of the numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(9, 9, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) @ self.linear.weight + self.linear(x[:, :1, 1:10, 1:10])  # type: ignore[no-any-return]


def _modules() -> None:
    ids: Make = i(2, 7, low=0, high=40)
    for text in ("4/32/bias", "8s/0/none", "4/32/point/b/b", "6s/16/none", "4/32/bias/64h"):
        for rows in (1, 6, 30):
            for bias in (True, False):
                module(f"quantized attention {text} {rows} bias={bias}", lambda b=bias: Attention(b), f(rows, 64),
                       scheme=scheme(text))  # fmt: skip
        for rows, width in ((1, 320), (3, 97), (8, 64)):
            module(f"quantized norm {text} {rows}x{width}", lambda w=width: Normed(w), f(rows, width),
                   scheme=scheme(text))  # fmt: skip
        module(f"quantized embedding {text}", lambda: nn.Embedding(40, 96), ids, scheme=scheme(text))
        module(f"quantized tied {text}", Tied, ids, scheme=scheme(text))
    for text in ("4/32/bias", "8s/0/none"):
        module(f"quantized batches {text}", Batched, f(5, 7, 64), scheme=scheme(text))
    module(
        "quantized products in an order", lambda: Square(96), f(5, 96), scheme=replace(scheme("4/32/point"), order="o")
    )
    module("quantized embedding in an order", lambda: nn.Embedding(40, 96), ids,
           scheme=replace(scheme("4/32/bias"), order="o"))  # fmt: skip
    module("quantized others", Others, f(2, 3, 11, 11), scheme=scheme("4/32/bias"))
    for bits in (2, 3, 6):  # whose rows end at different bytes
        for width in (64, 96, 22):
            module(f"quantized embedding {bits} bits {width}", lambda w=width: nn.Embedding(40, w), ids,
                   scheme=scheme(f"{bits}/16/bias"))  # fmt: skip
            module(f"quantized embedding {bits} bits signed {width}", lambda w=width: nn.Embedding(40, w), ids,
                   scheme=scheme(f"{bits}s/0/point"))  # fmt: skip
    for text in ("4/32/bias", "8s/64/point", "6/16/none", "4/16/bias/32h"):
        module(f"quantized rows joined {text}", lambda: Joined(61), i(2, 7, low=0, high=39), scheme=scheme(text))
    module("quantized embedding of 3 bits", lambda: nn.Embedding(40, 70), ids, scheme=scheme("3/16/bias"))


class Exported(nn.Module):
    """A layer as PyTorch's quantisation tools export it: its integers, one for a byte, are dequantised before it."""

    def __init__(self, low: int, high: int, group: int, points: bool, axis: int = 0) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.dtype = torch.int8 if low < 0 else torch.uint8
        self.low, self.high, self.group, self.axis = low, high, group, axis
        shape = (24, 64 // group) if group else ((24, 64)[axis],)
        self.register_buffer("q", torch.randint(low, high + 1, (24, 64), generator=g).to(self.dtype))
        self.register_buffer("scales", torch.rand(shape, generator=g) * 0.1)
        zeros = torch.randint(low, high + 1, shape, generator=g) if points else None
        self.register_buffer("points", zeros)

    def forward(self, x: Tensor) -> Tensor:
        op: Any = torch.ops.quantized_decomposed
        limits = (self.low, self.high, self.dtype)
        if self.group:
            w = op.dequantize_per_channel_group(self.q, self.scales, self.points, *limits, self.group, x.dtype)
        else:
            w = op.dequantize_per_channel(self.q, self.scales, self.points, self.axis, *limits, out_dtype=x.dtype)
        return F.linear(x, w)


class ExportedAsOne(nn.Module):
    """All integers with one scale and one point."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.register_buffer("q", torch.randint(-128, 128, (24, 64), generator=g).to(torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        op: Any = torch.ops.quantized_decomposed
        return F.linear(x, op.dequantize_per_tensor(self.q, 0.0625, 3, -128, 127, torch.int8, out_dtype=x.dtype))


class Affine(nn.Module):
    """A layer as torchao exports it: blocks of its integers have a scale and maybe a point."""

    def __init__(self, limits: Any, block: tuple[int, int], points: Any, dtype: torch.dtype = torch.int8) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        low, high = limits if limits[0] is not None else (-128, 127) if dtype == torch.int8 else (0, 255)
        self.limits, self.block = limits, list(block)
        shape = [n // size for n, size in zip((24, 96), block, strict=True)]
        self.register_buffer("q", torch.randint(low, high + 1, (24, 96), generator=g).to(dtype))
        self.register_buffer("scales", torch.rand(shape, generator=g) * 0.1)
        self.register_buffer("points", None if points is None else torch.randint(low, high + 1, shape).to(points))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, dequantize_affine(self.q, self.block, self.scales, self.points, self.limits, x.dtype))


class AsFloats(nn.Module):
    """Integers that become floats before a product, and are scaled, or not, after it."""

    def __init__(self, form: str, dtype: torch.dtype = torch.int8) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.form = form
        self.register_buffer("q", torch.randint(-128, 256, (24, 64), generator=g).to(dtype))
        self.register_buffer("scales", torch.rand(24, 1, generator=g) * 0.1)
        self.register_buffer("bias", torch.rand(24, generator=g))

    def forward(self, x: Tensor) -> Any:
        scales = self.scales.to(x.dtype).flatten()
        if self.form == "packed" and x.dtype != torch.float64:
            return torch.ops.aten._weight_int8pack_mm(x, self.q, scales)
        y = torch.mm(x, self.q.t().to(x.dtype))
        match self.form:
            case "bare":
                return y
            case "bias":
                return torch.relu(y * scales + self.bias)
            case "twice read":
                return y * scales + y
            case "rows":
                return y * x[:, :1]
            case "shared":
                return torch.mm(torch.tanh(x), self.q.t().to(x.dtype)) + y * scales
            case "untransposed":
                return torch.mm(y * scales / 64, self.q.to(x.dtype))
        return y * scales


class Part(nn.Module):
    """A layer whose integers, scales and points are parts of larger tensors, of an activation in another layout."""

    def __init__(self, group: int, turned: bool) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.group, self.turned = group, turned
        self.register_buffer("q", torch.randint(0, 256, (30, 167), generator=g).to(torch.uint8))
        self.register_buffer("scales", torch.rand(30, 160 // group, generator=g) * 0.1)
        self.register_buffer("points", torch.randint(0, 256, (30, 160 // group), generator=g))

    def forward(self, x: Tensor) -> Tensor:
        first = 64 // self.group
        q, scales, points = self.q, self.scales, self.points.to(torch.uint8)
        if self.turned:  # read from the last row on
            q, scales, points = q.flip(0), scales.flip(0), points.flip(0)
        scales, points = scales[5:, first:], points[5:, first:]
        w = dequantize_affine(q[5:, 67:163], [1, self.group], scales, points, (0, 255), x.dtype)
        return F.linear(x.t() if self.turned else x[1:, 7:103], w)


class Joined(nn.Module):
    """Rows of a quantised table that become parts of another tensor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(40, width)

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.table(ids)
        return torch.cat([rows * 2, rows, self.table(ids + 1)], -1)


class Static(nn.Module):
    """Activations quantised with scales that are known, as PT2E leaves them."""

    def forward(self, x: Tensor) -> Tensor:
        op: Any = torch.ops.quantized_decomposed
        limits = (0.03, 121, 0, 255, torch.uint8)
        if x.dtype == torch.float64:  # the operator takes floats
            return (torch.clamp(torch.round(x.float() * (1 / 0.03)) + 121, 0, 255).double() - 121) * 0.03
        return op.dequantize_per_tensor(op.quantize_per_tensor(x, *limits), *limits, out_dtype=x.dtype)  # type: ignore[no-any-return]


def _exported() -> None:
    module("exported linear with one scale", ExportedAsOne, f(3, 64))
    for block in ((1, 96), (1, 32), (24, 96), (8, 48), (24, 1)):
        for points in (None, torch.int8, torch.float32):
            make = functools.partial(Affine, (-8, 7), block, points)
            module(f"affine linear {block} points={points}", make, f(3, 96))
    for name, limits, dtype in (("int8", (None, None), torch.int8), ("uint8", (0, 255), torch.uint8),
                                ("3 bits", (-4, 3), torch.int8), ("uint4", (0, 15), torch.uint8)):  # fmt: skip
        for rows in (1, 20):
            make = functools.partial(Affine, limits, (1, 32), torch.int32, dtype)
            module(f"affine linear {name} {rows} rows", make, f(rows, 96))
    for form in ("scaled", "bias", "bare", "twice read", "rows", "shared", "untransposed", "packed"):
        module(f"integers as floats {form}", functools.partial(AsFloats, form), f(3, 64))
    for group in (32, 96, 8):
        for rows in (4, 20):
            part = (f(rows + 1, 110), f(96, rows))
            for turned in (False, True):
                name = f"affine linear of parts {group} {rows} turned={turned}"
                module(name, functools.partial(Part, group, turned), part[turned])
    module("integers as integers", functools.partial(AsFloats, "bare"), i(3, 64))
    module("integers as floats uint8", functools.partial(AsFloats, "bias", torch.uint8), f(11, 64))
    module("quantised activations", Static, f(5, 33))

    forms = itertools.product(((-128, 127), (0, 255), (-8, 7), (0, 15)), (0, 32), (True, False))
    for (low, high), group, points in forms:
        name = f"exported linear {low} to {high} group {group} points={points}"
        module(name, functools.partial(Exported, low, high, group, points), f(3, 64))
    module("exported linear along rows", functools.partial(Exported, -128, 127, 0, True, 1), f(3, 64))


for _family in (_schemes, _shapes, _units, _orders, _modules, _exported):
    _family()
