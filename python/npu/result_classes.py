"""Results in the containers that the module itself returned when it was traced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from npu_base.nesting import Make, plain
from torch.utils import _pytree as pytree
from torch_ir.structure import children_of

__all__ = ["as_traced"]


def as_traced(structure: dict[str, Any], spec: pytree.TreeSpec) -> Make:
    """Makes what PyTorch makes of a node of ``spec``, which describes the same results as ``structure``."""
    makers = dict(_makers(structure, spec))

    def make(node: dict[str, Any], items: list[Any]) -> Any:
        maker = makers.get(id(node))
        return plain(node, items) if maker is None else maker(items)

    return make


def _makers(node: dict[str, Any], spec: pytree.TreeSpec) -> Iterator[tuple[int, Callable[[list[Any]], Any]]]:
    if "items" not in node:
        return
    if spec.type not in (tuple, list, dict):
        unflatten, context = pytree.SUPPORTED_NODES[spec.type].unflatten_fn, spec.context
        yield id(node), lambda items: unflatten(items, context)
    for child, inner in zip(node["items"], children_of(spec), strict=True):
        yield from _makers(child, inner)
