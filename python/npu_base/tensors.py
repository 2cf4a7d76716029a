"""Tensors that consist of others, such as those that quantised weights are in PyTorch. Without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["plain_tensors"]


def plain_tensors(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """A tensor of a subclass is replaced by those that it consists of: ``weight`` by ``weight.qdata`` and the like."""
    return {name: part for key, tensor in tensors.items() for name, part in _parts(key, tensor)}


def _parts(name: str, tensor: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(type(tensor), "__tensor_flatten__"):
        yield name, tensor
        return
    attributes, _ = tensor.__tensor_flatten__()
    for attribute in attributes:
        yield from _parts(f"{name}.{attribute}", getattr(tensor, attribute))
