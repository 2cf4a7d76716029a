"""Normalisations. Inference batch norm is a scale and a shift per channel, which passes fold into a convolution."""

from __future__ import annotations

import math
from typing import Any

from ..errors import Refused, Unsupported
from ..exprs import class_of
from ..graph import View
from ..lowering import Builder, Tensor, lowering


def _floating(x: View) -> None:
    if class_of(x.dtype) != "f":
        raise Unsupported(f"a norm of {x.dtype}")


def _per_channel(v: View, rank: int) -> View:
    for _ in range(rank - 2):
        v = v.unsqueeze(v.rank)
    return v


def batch_norm_of(
    b: Builder, x: View, weight: View | None, bias: View | None, mean: View | None, var: View | None, eps: float
) -> View:
    _floating(x)
    if mean is None or var is None:
        axes = [0, *range(2, x.rank)]
        shape = [n if d == 1 else 1 for d, n in enumerate(x.shape)]
        mean, var = (
            b.reshape(b.new("reduce", [x], shape, x.dtype, kind=kind, axes=axes), (x.shape[1],))
            for kind in ("mean", "var")
        )
    parts: dict[str, Any] = {k: v for k, v in (("weight", weight), ("bias", bias)) if v is not None}
    scale_text = f"{'weight' if weight is not None else '1.0'} / sqrt(var + eps)"
    scale = b.map(scale_text, "float32", var=var, eps=eps, **{k: v for k, v in parts.items() if k == "weight"})
    shift_text = f"{'bias' if bias is not None else '0.0'} - mean * scale"
    shift = b.map(shift_text, "float32", mean=mean, scale=scale, **{k: v for k, v in parts.items() if k == "bias"})
    scale, shift = _per_channel(scale, x.rank), _per_channel(shift, x.rank)
    return b.map("x * scale + shift", x.dtype, x=x, scale=scale, shift=shift)


def _check_statistics(training: bool, mean: View | None, var: View | None) -> None:
    if training and mean is not None:
        raise Refused("a batch norm that is training; call eval() before extraction")
    if not training and (mean is None or var is None):
        raise Unsupported("a batch norm without running_mean or running_var, that is not training")


@lowering("aten.batch_norm.default")
def batch_norm(
    b: Builder,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Tensor:
    _check_statistics(training, running_mean, running_var)
    return batch_norm_of(b, input, weight, bias, running_mean, running_var, eps)


@lowering("aten._native_batch_norm_legit_no_training.default")
def batch_norm_no_training(
    b: Builder,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> list[Tensor | None]:
    return [batch_norm_of(b, input, weight, bias, running_mean, running_var, eps), None, None]


@lowering("aten.native_batch_norm.default")
def native_batch_norm(
    b: Builder,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> list[Tensor | None]:
    _check_statistics(training, running_mean, running_var)
    return [batch_norm_of(b, input, weight, bias, running_mean, running_var, eps), None, None]


@lowering("aten.cudnn_batch_norm.default")
def cudnn_batch_norm(
    b: Builder,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    exponential_average_factor: float,
    epsilon: float,
) -> list[Tensor | None]:
    _check_statistics(training, running_mean, running_var)
    return [batch_norm_of(b, input, weight, bias, running_mean, running_var, epsilon), None, None, None]


def normalise(b: Builder, kind: str, x: View, weight: View | None, bias: View | None, eps: float, **attrs: int) -> View:
    _floating(x)
    return b.new("norm", [x, weight, bias], x.shape, x.dtype, kind=kind, eps=eps, **attrs)


@lowering("aten.layer_norm.default")
def layer_norm(
    b: Builder,
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return normalise(b, "layer", input, weight, bias, eps, axes=len(normalized_shape))


@lowering("aten.native_layer_norm.default")
def native_layer_norm(
    b: Builder, input: Tensor, normalized_shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> list[Tensor | None]:
    return [layer_norm(b, input, normalized_shape, weight, bias, eps), None, None]


@lowering("aten.rms_norm.default")
def rms_norm(
    b: Builder, input: Tensor, normalized_shape: list[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    # PyTorch's own choice: that of the dtype it computes in, for halves too.
    return normalise(b, "rms", input, weight, None, 2.0**-23 if eps is None else eps, axes=len(normalized_shape))


@lowering("aten._fused_rms_norm.default")
def fused_rms_norm(
    b: Builder, input: Tensor, normalized_shape: list[int], weight: Tensor | None, eps: float | None = None
) -> list[Tensor | None]:
    return [rms_norm(b, input, normalized_shape, weight, eps), None]


@lowering("aten.group_norm.default")
def group_norm(
    b: Builder,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    return normalise(b, "group", input, weight, bias, eps, groups=num_groups)


@lowering("aten.native_group_norm.default")
def native_group_norm(
    b: Builder,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float,
) -> list[Tensor | None]:
    if math.prod(input.shape) != N * C * HxW:
        raise Unsupported(f"input {list(input.shape)} for N={N}, C={C}, HxW={HxW}")
    return [group_norm(b, input, group, weight, bias, eps), None, None]


@lowering("aten.instance_norm.default")
def instance_norm(
    b: Builder,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Tensor:
    if not use_input_stats:
        return batch_norm_of(b, input, weight, bias, running_mean, running_var, eps)
    return group_norm(b, input, input.shape[1], weight, bias, eps)


@lowering("aten._weight_norm.default")
def weight_norm(b: Builder, v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    axes = [d for d in range(v.rank) if d != dim % v.rank] if dim != -1 else list(range(v.rank))
    shape = [1 if d in axes else n for d, n in enumerate(v.shape)]
    total = b.new("reduce", [b.map("v * v", "float32", v=v)], shape, "float32", kind="sum", axes=axes)
    return b.map("v * (g / sqrt(total))", v.dtype, v=v, g=g, total=total)
