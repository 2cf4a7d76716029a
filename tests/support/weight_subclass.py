"""A tensor subclass for weights of integers with scales, as torchao has them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

__all__ = ["Int8Weight", "quantize_linears"]


class Int8Weight(torch.Tensor):
    """Rows of int8, each with a scale."""

    q: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls, q: Tensor, scale: Tensor) -> Int8Weight:
        return torch.Tensor._make_wrapper_subclass(cls, q.shape, dtype=scale.dtype, device=q.device)  # type: ignore[attr-defined, no-any-return]

    def __init__(self, q: Tensor, scale: Tensor) -> None:
        self.q, self.scale = q, scale

    def __repr__(self, **_: Any) -> str:
        return f"Int8Weight({list(self.shape)})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["q", "scale"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], meta: Any, size: Any, stride: Any) -> Int8Weight:
        return Int8Weight(inner["q"], inner["scale"])

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.linear:
            x, weight, bias = (*args, *[None] * (3 - len(args)))
            y = torch.mm(x.reshape(-1, x.shape[-1]), weight.q.t().to(x.dtype)) * weight.scale.flatten()
            y = y.reshape(*x.shape[:-1], -1)
            return y if bias is None else y + bias
        with torch._C.DisableTorchFunctionSubclass():  # results are of the class that dispatch gives them
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op in (torch.ops.aten.detach.default, torch.ops.aten.alias.default, torch.ops.aten.clone.default):
            weight = args[0]
            return Int8Weight(op(weight.q), op(weight.scale))
        plain = tree_map(lambda x: x.q * x.scale if isinstance(x, Int8Weight) else x, args)
        return op(*plain, **(kwargs or {}))


def quantize_linears(model: nn.Module) -> nn.Module:
    for part in model.modules():
        if isinstance(part, nn.Linear):
            scale = part.weight.detach().abs().amax(1, keepdim=True) / 127
            q = (part.weight.detach() / scale).round().to(torch.int8)
            part.weight = nn.Parameter(Int8Weight(q, scale), requires_grad=False)
    return model
