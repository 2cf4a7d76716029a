"""Results in the containers that the module itself returned when it was traced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from npu_base.nesting import Make, plain
from torch.utils import _pytree as pytree
from torch_ir.structure import children_of

__all__ = ["as_traced"]

Maker = Callable[[list[Any]], Any]


def as_traced(structure: dict[str, Any], spec: pytree.TreeSpec) -> Make:
    """Makes what PyTorch makes of a node of ``spec``, which describes the same results as ``structure``. Classes with
    code of their own, such as caches, hold no NumPy arrays: those come in plain containers."""
    makers = dict(_makers(structure, spec))

    def make(node: dict[str, Any], items: list[Any]) -> Any:
        if id(node) not in makers:
            return plain(node, items)
        maker, cls = makers[id(node)]
        return maker(items) if _is_data(cls) or not any(map(_has_array, items)) else plain(node, items)

    return make


def _as_size(items: Iterable[Any], _context: Any) -> torch.Size:
    return torch.Size(items)


def _is_data(cls: type) -> bool:
    return issubclass(cls, tuple | dict) or dataclasses.is_dataclass(cls)


def _has_array(value: Any) -> bool:
    return any(isinstance(leaf, np.ndarray) for leaf in pytree.tree_leaves(value))


def _makers(node: dict[str, Any], spec: pytree.TreeSpec) -> Iterator[tuple[int, tuple[Maker, type]]]:
    if "items" not in node:
        return
    if spec.type not in (tuple, list, dict):
        unflatten, context = pytree.SUPPORTED_NODES[spec.type].unflatten_fn, spec.context
        if spec.type is torch.Size:  # of which PyTorch makes a tuple
            unflatten = _as_size
        cls = context if isinstance(context, type) else spec.type  # of a named tuple, it is the context
        yield id(node), (lambda items: unflatten(items, context), cls)
    for child, inner in zip(node["items"], children_of(spec), strict=True):
        yield from _makers(child, inner)
