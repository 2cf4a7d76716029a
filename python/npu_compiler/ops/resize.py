"""Interpolation, as torch.nn.functional.interpolate."""

from __future__ import annotations

from ..errors import Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, Tensor, lowering
from .pool import NARROW


def resized(
    b: Builder, x: View, kind: str, size: list[int] | None, scales: list[float | None] | None, align: bool = False
) -> View:
    spatial = x.shape[2:]
    if x.dtype in NARROW and kind.startswith("nearest"):
        return b.cast(resized(b, b.cast(x, "float32"), kind, size, scales, align), x.dtype)
    if class_of(x.dtype) != "f":
        raise Unsupported(f"interpolation of {x.dtype}")
    factors = list(scales or [None] * len(spatial))
    if size is None:
        size = [int(n * float(f or 1)) for n, f in zip(spatial, factors, strict=True)]
    if len(size) != len(spatial):
        raise Unsupported(f"output size {size} for {len(spatial)} spatial dimensions")
    given = [float(f) if f and f > 0 else 0.0 for f in factors]
    return b.new("resize", [x], (*x.shape[:2], *size), x.dtype, kind=kind, align_corners=align, scales=given)


_NAMES = [("upsample_nearest{n}d", "nearest", (1, 2, 3)), ("_upsample_nearest_exact{n}d", "nearest_exact", (1, 2, 3)),
          ("upsample_linear{n}d", "linear", (1,)), ("upsample_bilinear{n}d", "linear", (2,)),
          ("upsample_bicubic{n}d", "cubic", (2,)), ("upsample_trilinear{n}d", "linear", (3,))]  # fmt: skip


def _register(name: str, kind: str) -> None:
    @lowering(f"aten.{name}.vec")
    def vec(
        b: Builder,
        input: Tensor,
        output_size: list[int] | None = None,
        align_corners: bool = False,
        scale_factors: list[float] | None = None,
    ) -> Tensor:
        return resized(b, input, kind, output_size, list(scale_factors or []) or None, align_corners)

    @lowering(f"aten.{name}.default")
    def default(
        b: Builder,
        self: Tensor,
        output_size: list[int],
        align_corners: bool = False,
        scales: float | None = None,
        scales_d: float | None = None,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Tensor:
        n = self.rank - 2
        factors = [scales] if n == 1 else [scales_d, scales_h, scales_w][3 - n :]
        return resized(b, self, kind, list(output_size), factors, align_corners)


for _name, _kind, _ranks in _NAMES:
    for _n in _ranks:
        _register(_name.format(n=_n), _kind)
