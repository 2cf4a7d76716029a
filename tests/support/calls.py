"""Models called on copies of their inputs, in their own dtype or in float64."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


def arguments(inputs: Any) -> tuple[Any, Any]:
    """``(args, kwargs)`` of a tuple or a dict."""
    return ((), inputs) if isinstance(inputs, dict) else (inputs, {})


def call(model: nn.Module, inputs: Any) -> list[Tensor]:
    """The tensors that it returns."""
    args, kwargs = copy.deepcopy(arguments(inputs))
    with torch.no_grad():
        return [x for x in pytree.tree_leaves(model(*args, **kwargs)) if isinstance(x, Tensor)]


def call_exactly(model: nn.Module, inputs: Any) -> list[Tensor]:
    """In float64, whatever the model makes on the way included; the model stays so."""
    torch.set_default_dtype(torch.float64)
    try:
        return call(model.double(), in_float64(inputs))
    finally:
        torch.set_default_dtype(torch.float32)


def in_float64(inputs: Any) -> Any:
    return pytree.tree_map(lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, inputs)
