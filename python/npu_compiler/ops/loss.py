"""Losses: elementwise terms, and their mean, their sum or neither."""

from __future__ import annotations

from typing import Any

from ..errors import Refused, Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, Tensor, lowering
from .gather import along_axis, index_of
from .reduce import reduced
from .softmax import along


def _reduced(b: Builder, x: View, reduction: int, dtype: str) -> View:
    if reduction == 0:
        return b.cast(x, dtype)
    flat = b.reshape(x, (x.elements,))
    return b.cast(reduced(b, flat, "mean" if reduction == 1 else "sum", [0], x.dtype).drop(0), dtype)


def _elementwise(b: Builder, text: str, x: View, y: View, reduction: int, **numbers: Any) -> View:
    if class_of(x.dtype) != "f" or class_of(y.dtype) != "f":
        raise Unsupported(f"a loss of {x.dtype} and {y.dtype}")
    return _reduced(b, b.map(text, "float32", x=x, y=y, **numbers), reduction, x.dtype)


@lowering("aten.mse_loss.default")
def mse_loss(b: Builder, self: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    return _elementwise(b, "(x - y) * (x - y)", self, target, reduction)


@lowering("aten.l1_loss.default")
def l1_loss(b: Builder, self: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    return _elementwise(b, "abs(x - y)", self, target, reduction)


@lowering("aten.smooth_l1_loss.default")
def smooth_l1_loss(b: Builder, self: Tensor, target: Tensor, reduction: int = 1, beta: float = 1.0) -> Tensor:
    if not beta:
        return l1_loss(b, self, target, reduction)
    text = "(x - y) * (x - y) * 0.5 / beta if abs(x - y) < beta else abs(x - y) - half"
    return _elementwise(b, text, self, target, reduction, beta=float(beta), half=beta / 2)


@lowering("aten.huber_loss.default")
def huber_loss(b: Builder, self: Tensor, target: Tensor, reduction: int = 1, delta: float = 1.0) -> Tensor:
    text = "(x - y) * (x - y) * 0.5 if abs(x - y) < delta else (abs(x - y) - half) * delta"
    return _elementwise(b, text, self, target, reduction, delta=float(delta), half=delta / 2)


@lowering("aten.binary_cross_entropy.default")
def binary_cross_entropy(
    b: Builder, self: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = 1
) -> Tensor:
    text = "0 - (y * max(log(x), floor_) + (1 - y) * max(log1p(0 - x), floor_))"
    more = {} if weight is None else {"w": weight}
    return _elementwise(b, f"({text}) * w" if more else text, self, target, reduction, floor_=-100.0, **more)


@lowering("aten.binary_cross_entropy_with_logits.default")
def binary_cross_entropy_with_logits(
    b: Builder,
    self: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = 1,
) -> Tensor:
    more = {k: v for k, v in (("w", weight), ("p", pos_weight)) if v is not None}
    factor = " * ((p - 1) * y + 1)" if "p" in more else ""
    text = f"(1 - y) * x + (log1p(exp(0 - abs(x))) - min(x, 0)){factor}"
    return _elementwise(b, f"({text}) * w" if "w" in more else text, self, target, reduction, **more)


@lowering("aten.kl_div.default")
def kl_div(b: Builder, self: Tensor, target: Tensor, reduction: int = 1, log_target: bool = False) -> Tensor:
    text = "exp(y) * (y - x)" if log_target else "(0.0 if y == 0 else y * log(y)) - y * x"
    return _elementwise(b, text, self, target, reduction)


@lowering("aten.nll_loss.default", "aten.nll_loss_nd.default", "aten.nll_loss2d.default")
def nll_loss(
    b: Builder,
    self: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = 1,
    ignore_index: int = -100,
) -> Tensor:
    x, index = (self.unsqueeze(0), target.unsqueeze(0)) if self.rank == 1 else (self, target)
    if x.rank < 2 or index.rank != x.rank - 1 or class_of(x.dtype) != "f":
        raise Unsupported(f"targets {target.dtype}{list(target.shape)} for {list(self.shape)}")
    index = index_of(b, index).unsqueeze(1)
    safe = b.map("0 if i == skip else i", "int64", i=index, skip=ignore_index)
    picked = b.new("gather", [x, safe], index.shape, x.dtype, **along_axis(x, 1))
    scale = b.full((), 1.0, "float32").expand(index.shape)
    if weight is not None:
        per_class = weight
        for _ in range(x.rank - 2):
            per_class = per_class.unsqueeze(per_class.rank)
        per_class = per_class.expand((x.shape[0], *x.shape[1:])) if x.rank > 2 else per_class.expand(x.shape)
        scale = b.new("gather", [per_class, safe], index.shape, weight.dtype, **along_axis(x, 1))
    scale = b.map("0.0 if i == skip else s", "float32", i=index, s=scale, skip=ignore_index)
    loss = b.map("0 - x * s if s != 0 else 0.0", "float32", x=picked, s=scale)
    if reduction == 0:
        out = b.cast(loss.drop(1), x.dtype)
        return out if self.rank > 1 else out.drop(0)
    total = _reduced(b, loss, 2, "float32")
    if reduction == 1:
        total = b.map("t / n", "float32", t=total, n=_reduced(b, scale, 2, "float32"))
    return b.cast(total, x.dtype)


@lowering("aten.cross_entropy_loss.default")
def cross_entropy(
    b: Builder,
    self: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = 1,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    if label_smoothing:
        raise Refused("label smoothing")
    if class_of(target.dtype) == "f":
        raise Unsupported("probabilities as targets")
    return nll_loss(b, along(b, self, 0 if self.rank == 1 else 1, None, True), target, weight, reduction, ignore_index)
