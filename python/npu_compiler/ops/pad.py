"""Padding. Negative amounts crop."""

from __future__ import annotations

from ..errors import Refused, Unsupported
from ..graph import View
from ..lowering import Builder, Scalar, Tensor, lowering

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def padded(b: Builder, x: View, pad: list[int], kind: str, value: Scalar = 0) -> View:
    b.check_dtype(x)
    low, high = [0] * x.rank, [0] * x.rank
    for i in range(len(pad) // 2):
        low[-1 - i], high[-1 - i] = pad[2 * i], pad[2 * i + 1]
    for d in range(x.rank):
        first, cut = max(-low[d], 0), max(-low[d], 0) + max(-high[d], 0)
        if cut:
            if kind != "constant":
                raise Unsupported(f"negative padding with mode {kind!r}")
            x = x.slice(d, first, x.shape[d] - cut)
    low, high = [max(n, 0) for n in low], [max(n, 0) for n in high]
    if not any(low) and not any(high):
        return x
    shape = [n + a + z for n, a, z in zip(x.shape, low, high, strict=True)]
    limit = {"reflect": -1, "circular": 0}.get(kind)
    if limit is not None and any(max(a, z) > n + limit for n, a, z in zip(x.shape, low, high, strict=True) if a or z):
        raise Unsupported(f"padding {pad} of {list(x.shape)} with mode {kind!r}")
    return b.new("pad", [x], shape, x.dtype, low=low, high=high, kind=kind, value=float(value))


@lowering("aten.constant_pad_nd.default")
def constant_pad(b: Builder, self: Tensor, pad: list[int], value: Scalar = 0) -> Tensor:
    return padded(b, self, pad, "constant", value)


@lowering("aten.pad.default")
def pad_(b: Builder, self: Tensor, pad: list[int], mode: str = "constant", value: Scalar | None = None) -> Tensor:
    if mode not in _MODES:
        raise Refused(f"mode {mode!r}")
    return padded(b, self, pad, mode, value or 0)


@lowering(*(f"aten.reflection_pad{n}d.default" for n in (1, 2, 3)))
def reflection_pad(b: Builder, self: Tensor, padding: list[int]) -> Tensor:
    return padded(b, self, padding, "reflect")


@lowering(*(f"aten.replication_pad{n}d.default" for n in (1, 2, 3)))
def replication_pad(b: Builder, self: Tensor, padding: list[int]) -> Tensor:
    return padded(b, self, padding, "replicate")
