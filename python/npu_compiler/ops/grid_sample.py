"""Sampling at given positions: torch.nn.functional.grid_sample and affine_grid."""

from __future__ import annotations

from ..errors import Refused, Unsupported
from ..exprs import class_of
from ..lowering import Builder, Tensor, lowering
from .cat import concatenate
from .matmul import product

_KINDS, _PADDINGS = ("linear", "nearest", "cubic"), ("zeros", "border", "reflection")


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
    if max(input.shape[2:]) > 2**24:
        raise Unsupported(f"sampling of {list(input.shape)}: float32 tells no more than 2^24 positions apart")
    grid = grid if grid.dtype == input.dtype else b.cast(grid, "float32")
    shape = (*input.shape[:2], *grid.shape[1:-1])
    kind, padding = _KINDS[interpolation_mode], _PADDINGS[padding_mode]
    return b.new(
        "grid_sample", [input, grid], shape, input.dtype, kind=kind, padding=padding, align_corners=align_corners
    )


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
