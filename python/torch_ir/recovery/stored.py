"""Constructor arguments that a module stores."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .source import definer_of, stored_under

PLACEMENT = ("device", "dtype")


class UnknownError(Exception):
    """The value cannot be determined."""


def stored_argument(module: nn.Module, name: str) -> Any:
    """The value that the constructor stored unmodified, or a config under its usual name."""
    attributes = vars(module)
    if name == "config" and attributes.get(name) is not None:
        return attributes[name]
    attribute = stored_under(definer_of(type(module)), name)
    if attribute is None or attribute not in attributes:
        raise UnknownError(name)
    value = attributes[attribute]
    if (value is None and name == "config") or holds_tensors(value):
        raise UnknownError(name)
    return value


def holds_tensors(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(holds_tensors, value))
    if isinstance(value, dict):
        return any(map(holds_tensors, value.values()))
    return isinstance(value, (nn.Module, torch.Tensor))
