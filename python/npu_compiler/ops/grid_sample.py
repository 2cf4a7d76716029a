"""Sampling at given positions: torch.nn.functional.grid_sample and affine_grid."""

from __future__ import annotations

import itertools
from typing import Any

from ..errors import Refused, Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, Tensor, lowering
from .cat import concatenate
from .matmul import product

_CUBIC = {  # weights of the four neighbours of a position t beyond the second, a = -0.75
    -1: "((-0.75 * (t + 1) + 3.75) * (t + 1) - 6.0) * (t + 1) + 3.0",
    0: "(1.25 * t - 2.25) * t * t + 1",
    1: "(1.25 * (1 - t) - 2.25) * (1 - t) * (1 - t) + 1",
    2: "((-0.75 * (2 - t) + 3.75) * (2 - t) - 6.0) * (2 - t) + 3.0",
}


class _Sampler:
    """``positions`` are the coordinates in elements of the input, one view per spatial dimension, of [N, 1, out...]."""

    def __init__(self, b: Builder, x: View, grid: View, padding: int, align: bool) -> None:
        self.b, self.x, self.padding, self.align = b, x, padding, align
        self.n = x.rank - 2
        self.shape = (x.shape[0], x.shape[1], *grid.shape[1:-1])
        text = "(g + 1) / 2 * (size - 1)" if align else "((g + 1) * size - 1) / 2"
        self.positions = [
            b.map(text, "float32", compute="float32", g=self._coordinate(grid, d), size=float(x.shape[2 + d]))
            for d in range(self.n)
        ]

    def _coordinate(self, grid: View, d: int) -> View:
        """Grids list the last dimension first."""
        return grid.slice(grid.rank - 1, self.n - 1 - d, 1).drop(grid.rank - 1).unsqueeze(1)

    def moved_inside(self, position: View, d: int) -> View:
        """The position after padding: unchanged, clamped to the border, or reflected."""
        last = float(self.x.shape[2 + d] - 1)
        if self.padding == 0:
            return position
        if self.padding == 2:
            low, span = (0.0, last) if self.align else (-0.5, last + 1)
            if not span:
                return self.b.map("c * 0", "float32", c=position)
            away = "abs(c - low)"
            odd = f"fmod(floor({away} / span), two) == 1"
            rest = f"fmod({away}, span)"
            position = self.b.map(f"span - {rest} + low if {odd} else {rest} + low", "float32",
                               c=position, low=low, span=span, two=2.0)  # fmt: skip
        return self.b.map("min(max(c, 0), last)", "float32", c=position, last=last)

    def at(self, steps: list[View]) -> View:
        """The elements at integer positions. Positions outside give the nearest element."""
        indices = [
            self.b.map("min(max(int64(c), 0), last)", "int64", c=c, last=self.x.shape[2 + d] - 1).expand(self.shape)
            for d, c in enumerate(steps)
        ]
        axes = list(range(2, 2 + self.n))
        return self.b.new(
            "gather", [self.x, *indices], self.shape, self.x.dtype, axes=axes, dims=[0, 1, *[-1] * self.n]
        )

    def _inside(self, name: str, d: int) -> str:
        """The condition that a position lies in the input. Positions that were moved inside do, or have weight 0."""
        return f"({name} >= 0 and {name} <= {float(self.x.shape[2 + d] - 1)})"

    def nearest(self) -> View:
        steps = [self.b.map("round(c)", "float32", c=self.moved_inside(p, d)) for d, p in enumerate(self.positions)]
        inside = " and ".join(self._inside(f"c{d}", d) for d in range(self.n))
        env: dict[str, Any] = {f"c{d}": c for d, c in enumerate(steps)}
        return self.b.map(f"v if {inside} else 0.0", self.x.dtype, v=self.at(steps), **env)

    def linear(self) -> View:
        positions = [self.moved_inside(p, d) for d, p in enumerate(self.positions)]
        low = [self.b.map("floor(c)", "float32", c=c) for c in positions]
        steps = [(f, self.b.map("f + 1", "float32", f=f)) for f in low]
        coordinates: dict[str, Any] = {f"c{d}": c for d, c in enumerate(positions)}
        env: dict[str, Any] = {}
        terms = []
        # Weights belong to positions, not to elements: channels share them.
        for k, corner in enumerate(itertools.product((0, 1), repeat=self.n)):
            weights = [
                f"(c{d} - floor(c{d}))" if side else f"(floor(c{d}) + 1 - c{d})" for d, side in enumerate(corner)
            ]
            inside = " and ".join(self._inside(f"(floor(c{d}) + {side})", d) for d, side in enumerate(corner))
            env[f"v{k}"] = self.at([steps[d][side] for d, side in enumerate(corner)])
            env[f"w{k}"] = self.b.map(" * ".join(weights), "float32", **coordinates)
            env[f"i{k}"] = self.b.map(inside, "bool", **coordinates)
            terms.append(f"(v{k} * w{k} if i{k} else 0.0)")
        return self.b.map(" + ".join(terms), self.x.dtype, **env)

    def cubic(self) -> View:
        low = [self.b.map("floor(c)", "float32", c=c) for c in self.positions]
        taps = [
            [self.moved_inside(self.b.map("f + k", "float32", f=f, k=float(k)), d) for k in _CUBIC]
            for d, f in enumerate(low)
        ]
        rows = []
        for y in taps[0]:
            env: dict[str, Any] = {"x": self.positions[1], "y": y}
            terms = []
            for k, x in zip(_CUBIC, taps[1], strict=True):
                env |= {f"v{k + 1}": self.at([y, x]), f"x{k + 1}": x}
                inside = f"{self._inside('y', 0)} and {self._inside(f'x{k + 1}', 1)}"
                terms.append(f"(v{k + 1} * ({_CUBIC[k].replace('t', '(x - floor(x))')}) if {inside} else 0.0)")
            rows.append(self.b.map(" + ".join(terms), "float32", **env))
        text = " + ".join(f"r{k + 1} * ({weight.replace('t', '(y - floor(y))')})" for k, weight in _CUBIC.items())
        values: dict[str, Any] = {f"r{k}": row for k, row in enumerate(rows)}
        return self.b.map(text, self.x.dtype, y=self.positions[0], **values)


@lowering("aten.grid_sampler.default", "aten.grid_sampler_2d.default", "aten.grid_sampler_3d.default")
def grid_sampler(
    b: Builder, input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    n = input.rank - 2
    if n not in (2, 3) or class_of(input.dtype) != "f" or class_of(grid.dtype) != "f":
        raise Unsupported(f"sampling of {input.dtype} with {n} spatial dimensions")
    if grid.rank != input.rank or grid.shape[-1] != n or grid.shape[0] != input.shape[0] or 0 in input.shape[2:]:
        raise Unsupported(f"a grid {list(grid.shape)} for {list(input.shape)}")
    if interpolation_mode not in (0, 1, 2) or padding_mode not in (0, 1, 2):
        raise Refused(f"interpolation_mode {interpolation_mode} with padding_mode {padding_mode}")
    if interpolation_mode == 2 and n != 2:
        raise Unsupported("bicubic sampling needs two spatial dimensions")
    sampler = _Sampler(b, input, grid, padding_mode, align_corners)
    return (sampler.linear, sampler.nearest, sampler.cubic)[interpolation_mode]()


@lowering("aten.affine_grid_generator.default")
def affine_grid(b: Builder, theta: Tensor, size: list[int], align_corners: bool) -> Tensor:
    n, spatial = size[0], size[2:]
    parts = []
    for d in reversed(range(len(spatial))):
        count = spatial[d]
        step = 2.0 / (count - 1) if align_corners and count > 1 else 2.0 / max(count, 1)
        start = -1.0 if align_corners and count > 1 else step / 2 - 1 if count > 1 else 0.0
        line = b.map("float32(i) * step + start", theta.dtype, i=b.iota(count), step=step, start=start)
        for _ in spatial[d + 1 :]:
            line = line.unsqueeze(line.rank)
        parts.append(line.expand(spatial).unsqueeze(len(spatial)))
    parts.append(b.full((), 1, theta.dtype).expand((*spatial, 1)))
    positions = concatenate(b, parts, len(spatial))
    flat = b.reshape(positions, (-(-positions.elements // (len(spatial) + 1)), len(spatial) + 1))
    out = product(b, flat.expand((n, *flat.shape)), theta.transpose(1, 2))
    return b.reshape(out, (n, *spatial, len(spatial)))
