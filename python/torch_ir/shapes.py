"""Shapes, and errors for sizes that are not fixed and have no name."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram

from .advice import fixed_size_form
from .errors import ConversionError
from .provenance import source_of
from .symbols import Symbols

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


def shape_of(tensor: torch.Tensor, where: str, exported: ExportedProgram, symbols: Symbols) -> tuple[Any, ...]:
    """Ints, and expressions of the sizes that are open."""
    if not isinstance(tensor, torch.Tensor):
        origin = _origin(tensor, exported) if hasattr(tensor, "node") else "whose origin is not known"
        raise ConversionError(
            f"Data-dependent value in {where}: {tensor} is computed from a tensor's contents ({origin}); IR "
            f"extraction requires static values; {fixed_size_form('aten.item')}"
        )
    shape = tuple(tensor.shape)
    sizes = tuple(map(symbols.size, shape))
    for axis, size in enumerate(shape):
        if sizes[axis] is None:
            raise ConversionError(
                f"Dynamic shape detected in {where}: shape={_show(shape)}, dimension {axis} is {size}, "
                f"{_origin(size, exported)}. IR extraction requires static shapes; {_instead(size, exported)}"
            )
    return sizes


def _show(shape: tuple[Any, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _instead(size: Any, exported: ExportedProgram) -> str:
    node = _first_with(size, exported)
    if node is None or node.op == "placeholder":
        return "export with fixed sizes, or give the dimension a name: dynamic_shapes={...}"
    return fixed_size_form(str(node.target))


def _first_with(size: Any, exported: ExportedProgram) -> Any:
    """The input or call whose result first has a size of these symbols."""
    for node in exported.graph.nodes:
        val = node.meta.get("val")
        for leaf in val if isinstance(val, (list, tuple)) else [val]:
            sizes = leaf.shape if isinstance(leaf, torch.Tensor) else [leaf]
            if any(isinstance(s, _SYMBOLIC) and _share(s, size) for s in sizes):
                return node
    return None


def _origin(size: Any, exported: ExportedProgram) -> str:
    """The input's dimension, or the line of the model, that a size comes from."""
    node = _first_with(size, exported)
    if node is None:
        return "whose origin is not known"
    if node.op != "placeholder":
        return f"which comes from node '{node.name}' ({node.target}) at {source_of(node)}"
    axis = next(i for i, s in enumerate(node.meta["val"].shape) if isinstance(s, _SYMBOLIC) and _share(s, size))
    return f"which comes from dimension {axis} of input '{node.name}'"


def _share(a: Any, b: Any) -> bool:
    """Whether two sizes have a symbol in common."""
    return bool({str(s) for s in a.node.expr.free_symbols} & {str(s) for s in b.node.expr.free_symbols})
