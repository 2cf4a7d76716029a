"""Operators that repeat or rotate their input. It is copied only where strides cannot express the result."""

from __future__ import annotations

from ..errors import Unsupported
from ..lowering import Builder, Tensor, dim_of, lowering
from .cat import concatenate


@lowering("aten.repeat.default")
def repeat(b: Builder, self: Tensor, repeats: list[int]) -> Tensor:
    x = self
    for _ in range(len(repeats) - x.rank):
        x = x.unsqueeze(0)
    expanded = x
    for d in reversed(range(x.rank)):
        expanded = expanded.unsqueeze(d)
    full = [n for pair in zip(repeats, x.shape, strict=True) for n in pair]
    return b.reshape(expanded.expand(full), [r * n for r, n in zip(repeats, x.shape, strict=True)])


@lowering("aten.tile.default")
def tile(b: Builder, self: Tensor, dims: list[int]) -> Tensor:
    return repeat(b, self, [1] * (self.rank - len(dims)) + list(dims))


@lowering("aten.repeat_interleave.self_int")
def repeat_interleave(
    b: Builder, self: Tensor, repeats: int, dim: int | None = None, output_size: int | None = None
) -> Tensor:
    x = b.reshape(self, (self.elements,)) if dim is None else self
    d = dim_of(dim or 0, x.rank)
    expanded = x.unsqueeze(d + 1)
    shape = list(expanded.shape)
    shape[d + 1] = repeats
    return b.reshape(expanded.expand(shape), [n * repeats if i == d else n for i, n in enumerate(x.shape)])


@lowering("aten.roll.default")
def roll(b: Builder, self: Tensor, shifts: int | list[int], dims: int | list[int] = ()) -> Tensor:  # type: ignore[assignment]
    shift_list = [shifts] if isinstance(shifts, int) else list(shifts)
    dim_list = [dims] if isinstance(dims, int) else list(dims)
    if not dim_list:
        flat = roll(b, b.reshape(self, (self.elements,)), shift_list, [0])
        return b.reshape(flat, self.shape)
    if len(shift_list) != len(dim_list):
        raise Unsupported(f"{len(shift_list)} shifts for {len(dim_list)} dimensions")
    x = self
    for shift, dim in zip(shift_list, dim_list, strict=True):
        d = dim_of(dim, x.rank)
        n = x.shape[d]
        shift = shift % n if n else 0
        if shift:
            x = concatenate(b, [x.slice(d, n - shift, shift), x.slice(d, 0, n - shift)], d)
    return x
