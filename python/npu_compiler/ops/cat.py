"""Concatenation: every part is written into its slice of one value."""

from __future__ import annotations

from ..errors import Unsupported
from ..graph import View
from ..lowering import Builder, Tensor, broadcast, dim_of, lowering, promote
from .pad import padded
from .views import atleast_2d, atleast_3d


def concatenate(b: Builder, parts: list[View], dim: int) -> View:
    shape = list(parts[0].shape)
    shape[dim] = sum(p.shape[dim] for p in parts)
    parts = [p for p in parts if p.elements] or parts[:1]
    if len(parts) == 1 and parts[0].shape == tuple(shape):
        return parts[0]
    out = b.temp(shape, parts[0].dtype)
    at = 0
    for part in parts:
        b.check_dtype(part)
        b.emit("copy", [part], [out.slice(dim, at, part.shape[dim])])
        at += part.shape[dim]
    return out


@lowering("aten.cat.default", "aten.concat.default", "aten.concatenate.default")
def cat(b: Builder, tensors: list[Tensor], dim: int = 0) -> Tensor:
    dtype = promote(tensors)
    kept = [t for t in tensors if t.shape != (0,)] or tensors[:1]  # PyTorch skips empty vectors of any rank
    d = dim_of(dim, kept[0].rank)
    if any(t.shape[:d] + t.shape[d + 1 :] != kept[0].shape[:d] + kept[0].shape[d + 1 :] for t in kept):
        raise Unsupported(f"shapes {[list(t.shape) for t in kept]} along dimension {d}")
    return concatenate(b, [b.cast(t, dtype) for t in kept], d)


@lowering("aten.stack.default")
def stack(b: Builder, tensors: list[Tensor], dim: int = 0) -> Tensor:
    d = dim_of(dim, tensors[0].rank + 1)
    return cat(b, [t.unsqueeze(d) for t in tensors], d)


@lowering("aten.hstack.default")
def hstack(b: Builder, tensors: list[Tensor]) -> Tensor:
    vectors = [t if t.rank else t.unsqueeze(0) for t in tensors]
    return cat(b, vectors, 0 if vectors[0].rank == 1 else 1)


@lowering("aten.vstack.default")
def vstack(b: Builder, tensors: list[Tensor]) -> Tensor:
    return cat(b, [t.expand(broadcast(t.shape, (1, 1))) if t.rank < 2 else t for t in tensors], 0)


@lowering("aten.dstack.default")
def dstack(b: Builder, tensors: list[Tensor]) -> Tensor:
    return cat(b, [atleast_3d(b, t) for t in tensors], 2)


@lowering("aten.column_stack.default")
def column_stack(b: Builder, tensors: list[Tensor]) -> Tensor:
    return hstack(b, [b.reshape(t, (t.elements, 1)) if t.rank < 2 else t for t in tensors])


@lowering("aten.block_diag.default")
def block_diag(b: Builder, tensors: list[Tensor]) -> Tensor:
    parts = [b.cast(atleast_2d(b, t), promote(tensors)) for t in tensors]
    width, left, rows = sum(t.shape[1] for t in parts), 0, []
    for t in parts:
        rows.append(padded(b, t, [left, width - left - t.shape[1]], "constant"))
        left += t.shape[1]
    return concatenate(b, rows, 0)


@lowering("aten.cartesian_prod.default")
def cartesian_prod(b: Builder, tensors: list[Tensor]) -> Tensor:
    if len(tensors) == 1:
        return tensors[0]
    return stack(b, [b.reshape(t, (t.elements,)) for t in meshgrid(b, tensors)], 1)


@lowering("aten.meshgrid.default", "aten.meshgrid.indexing")
def meshgrid(b: Builder, tensors: list[Tensor], indexing: str = "ij") -> list[Tensor]:
    shape = [t.elements for t in tensors]
    grids = []
    for d, t in enumerate(tensors):
        view = b.reshape(t, [n if d == i else 1 for i, n in enumerate(shape)]).expand(shape)
        grids.append(view)
    return [t.transpose(0, 1) for t in grids] if indexing == "xy" and len(shape) > 1 else grids


@lowering("aten.diff.default")
def diff(
    b: Builder, self: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    d = dim_of(dim, self.rank)
    x = cat(b, [t for t in (prepend, self, append) if t is not None], d)
    for _ in range(n):
        count = max(x.shape[d] - 1, 0)
        new, old = x.slice(d, min(1, x.shape[d]), count), x.slice(d, 0, count)
        x = b.map("lxor(new, old)" if x.dtype == "bool" else "new - old", x.dtype, new=new, old=old)
    return x
