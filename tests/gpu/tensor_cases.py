"""Products, convolutions and attention that NVIDIA's tensor cores compute: sizes that tiles of 32 to 128 fit and do not
fit, parts of the depth, gates, groups, masks. And products of one row, whose weights bulk copies bring: depths that
one simdgroup has alone or several share, and results that simdgroups share evenly and not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.ops.making import Case, Make


def normal(*shape: int) -> Make:
    return lambda g: torch.randn(*shape, generator=g)


class Gated(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


def products() -> Iterator[Case]:
    sizes = ((37, 72, 40), (128, 64, 128), (130, 200, 264), (64, 2048, 96), (17, 8, 8), (9, 40, 1000))
    for rows, depth, columns in sizes:
        name = f"{rows}x{depth}x{columns}"
        yield Case(f"linear {name}", lambda d=depth, c=columns: nn.Linear(d, c), (normal(rows, depth),), module=True)
        yield Case(f"matmul {name}", torch.matmul, (normal(rows, depth), normal(depth, columns)))
        yield Case(
            f"batched {name}",
            lambda a, b: F.relu(a @ b.transpose(-1, -2)),
            (normal(2, rows, depth), normal(2, columns, depth)),
        )
    for rows in (9, 40, 130):
        yield Case(f"gated {rows}", lambda: Gated(64, 88), (normal(rows, 64),), module=True)
    # One right side for a batch that is longer than the rows, and does not lie as more of them.
    yield Case(
        "seldom rows", lambda: nn.Linear(64, 48), (lambda g: torch.randn(3, 50, 64, generator=g).mT.mT,), module=True
    )
    yield Case("rows apart", lambda x, w: x.transpose(0, 1) @ w, (normal(3, 50, 64), normal(64, 40)))
    huge = torch.tensor([1.0, 3.0e38, -1.0, 2.0]).repeat(16)
    yield Case("large numbers", lambda x, w: (x * 1e-30) @ w, (lambda g: huge.expand(20, 64).clone(), normal(64, 24)))


def groups() -> Iterator[Case]:
    """Of sizes at which Hopper's groups of simdgroups have tiles of 64 to 256."""
    for rows, depth, columns in ((70, 72, 130), (300, 128, 520), (256, 64, 1000), (60, 4104, 128), (64, 24, 2000)):
        name = f"groups {rows}x{depth}x{columns}"
        yield Case(name, lambda d=depth, c=columns: nn.Linear(d, c), (normal(rows, depth),), module=True)
    for rows in (40, 130, 300):
        yield Case(f"groups gated {rows}", lambda: Gated(512, 264), (normal(rows, 512),), module=True)
    yield Case("groups batched", lambda a, b: F.gelu(a @ b.mT), (normal(3, 130, 64), normal(3, 200, 64)))
    yield Case("groups few channels", lambda: nn.Conv2d(3, 64, 7, 2, 3), (normal(1, 3, 72, 72),), module=True)
    yield Case("groups patches", lambda: nn.Conv2d(5, 96, 8, 8), (normal(2, 5, 64, 72),), module=True)
    yield Case("groups convolution", lambda: nn.Conv2d(64, 136, 3, 1, 1), (normal(2, 64, 17, 16),), module=True)


class Normal(nn.Module):
    """As decoders have it: a norm, then products of one row, gated or not, with all that may follow them."""

    def __init__(self, width: int, hidden: int, **norm: Any) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, **{"eps": 1e-6, **norm})
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down, self.head = nn.Linear(hidden, width, bias=False), nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.norm(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return x, self.head(self.norm(x))


def long_caches() -> Iterator[Case]:
    """Attention of a row or two to so many columns that threadgroups share them; of some, few are seen."""
    for batch, heads, groups, rows, columns, width, seen in (
        (1, 12, 2, 1, 2048, 128, 129), (2, 6, 2, 1, 700, 80, 33), (1, 8, 1, 2, 1500, 256, 1500),
        (1, 2, 2, 1, 4000, 32, 1),
    ):  # fmt: skip
        inputs = (
            normal(batch, heads, rows, width),
            normal(batch, groups, columns, width),
            normal(batch, groups, columns, width),
            lambda g, r=rows, c=columns, s=seen: (torch.arange(c) < s).expand(r, c).clone(),
        )

        def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)

        yield Case(f"cache {batch}x{heads}x{groups}x{rows}x{columns}x{width}", attend, inputs)


def streams() -> Iterator[Case]:
    for depth, columns in (
        (8, 40), (128, 8), (128, 9), (136, 300), (256, 7), (256, 77), (264, 1000), (1000, 65), (1536, 64),
        (2047, 40), (2056, 33), (4096, 35), (8960, 96), (20000, 16),
    ):  # fmt: skip
        name = f"row {depth}x{columns}"
        yield Case(name, lambda d=depth, c=columns: nn.Linear(d, c), (normal(1, depth),), module=True)
        if depth % 8 == 0:
            yield Case(f"gated {name}", lambda d=depth, c=columns: Gated(d, c), (normal(1, 1, depth),), module=True)
    for width, hidden in ((128, 40), (264, 300), (1536, 520), (4096, 17), (8192, 9)):
        made: Callable[..., nn.Module] = lambda w=width, h=hidden: Normal(w, h)  # noqa: E731
        yield Case(f"normal row {width}x{hidden}", made, (normal(1, 1, width),), module=True)
    yield Case(
        "normal row without a weight", lambda: Normal(256, 40, elementwise_affine=False), (normal(1, 256),), module=True
    )
    for name, after in {"gelu": F.gelu, "exp": lambda x: torch.exp(x) * 2 - x, "tanh": torch.tanh}.items():
        yield Case(f"row {name}", lambda a=after: Then(nn.Linear(256, 80), a), (normal(1, 256),), module=True)


class Then(nn.Module):
    def __init__(self, product: nn.Module, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.product, self.after = product, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.product(x))


def infinities() -> Iterator[Case]:
    def row(g: torch.Generator) -> Tensor:
        x = torch.randn(20, 64, generator=g)
        x[0, 3], x[1, 5], x[2, 7] = float("inf"), float("-inf"), float("nan")
        return x

    yield Case("infinities", torch.matmul, (row, lambda g: torch.randn(64, 24, generator=g).round().clamp(1)))

    def weights() -> nn.Module:
        linear = nn.Linear(1000, 24)
        with torch.no_grad():
            linear.weight.copy_(torch.ones(24, 1000))
            linear.weight[3, 5], linear.weight[4, 999], linear.weight[23, 7] = float("inf"), float("-inf"), float("nan")
        return linear

    yield Case("infinite weights of a row", weights, (lambda g: torch.rand(1, 1000, generator=g) + 0.1,), module=True)


def convolutions() -> Iterator[Case]:
    settings: tuple[tuple[tuple[int, ...], tuple[Any, ...]], ...] = (
        ((1, 16, 9, 11), (24, 3, 1, 1)), ((2, 64, 14, 14), (64, 3, 1, 1)), ((1, 256, 7, 7), (72, 1)),
        ((2, 32, 15, 13), (40, 3, 2, 1)), ((1, 64, 10, 10), (64, 3, 1, 1, 1, 2)), ((3, 8, 20, 20), (16, 5, 2, 2)),
        ((1, 128, 7, 7), (64, 3, 1, 1)), ((2, 16, 12, 12), (32, 3, 1, 1, 2)), ((1, 3, 16, 16), (64, 7, 2, 3)),
    )  # fmt: skip
    for shape, (out, *rest) in settings:
        name = f"conv {'x'.join(map(str, shape))} {out} {' '.join(map(str, rest))}"
        made: Callable[..., nn.Module] = lambda c=shape[1], o=out, r=tuple(rest): nn.Conv2d(c, o, *r)  # noqa: E731
        yield Case(name, made, (normal(*shape),), module=True)
    yield Case("conv 3d", lambda: nn.Conv3d(16, 24, 3, padding=1), (normal(1, 16, 5, 6, 7),), module=True)
    yield Case("conv transposed", lambda: nn.ConvTranspose2d(16, 24, 3, 2, 1), (normal(1, 16, 6, 7),), module=True)


def attention() -> Iterator[Case]:
    # batch, heads, groups, rows, columns, width
    for batch, heads, groups, rows, columns, width in (
        (1, 3, 3, 70, 70, 64), (2, 4, 2, 40, 40, 128), (1, 3, 1, 33, 100, 80), (1, 2, 2, 20, 2100, 32),
        (2, 3, 3, 40, 65, 96),
    ):  # fmt: skip
        inputs = (
            normal(batch, heads, rows, width),
            normal(batch, groups, columns, width),
            normal(batch, groups, columns, width),
        )
        name = f"attention {batch}x{heads}x{groups}x{rows}x{columns}x{width}"

        def seen(g: torch.Generator, r: int = rows, c: int = columns) -> Tensor:
            mask = torch.rand(r, c, generator=g) > 0.7
            mask[:, 0] = True
            mask[:, min(c // 2, 100) :] = False
            return mask

        def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=True)

        yield Case(name, attend, inputs)
        yield Case(f"{name} masked", attend, (*inputs, seen))
        yield Case(f"{name} addends", attend, (*inputs, lambda g, s=seen: torch.where(s(g), 0.5, -torch.inf)))
        if rows == columns:
            yield Case(f"{name} causal", lambda q, k, v, f=attend: f(q, k, v, causal=True), inputs)


CASES = [*products(), *convolutions(), *attention()]
STREAMS = [*streams(), *long_caches()]
GROUPS = [*groups()]
INFINITIES = [*infinities()]
