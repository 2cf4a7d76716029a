"""Static shapes, and a clear word about dynamic ones."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram

from .errors import ConversionError
from .provenance import source_of


def static_shape(tensor: torch.Tensor, where: str, exported: ExportedProgram) -> tuple[int, ...]:
    if not isinstance(tensor, torch.Tensor):
        origin = _origin(tensor, exported) if hasattr(tensor, "node") else "whose origin is not known"
        raise ConversionError(
            f"Data-dependent value in {where}: {tensor} is computed from a tensor's contents ({origin}); IR "
            f"extraction requires static values"
        )
    shape = tuple(tensor.shape)
    for axis, size in enumerate(shape):
        if not isinstance(size, int):
            raise ConversionError(
                f"Dynamic shape detected in {where}: shape={_show(shape)}, dimension {axis} is {size}, "
                f"{_origin(size, exported)}. IR extraction requires static shapes; export with fixed sizes"
            )
    return shape


def _show(shape: tuple[Any, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _origin(size: Any, exported: ExportedProgram) -> str:
    """Which input's dimension, or which line of the model, the size came from."""
    symbols = {str(s) for s in size.node.expr.free_symbols}
    for node in exported.graph.nodes:
        val = node.meta.get("val")
        for leaf in val if isinstance(val, (list, tuple)) else [val]:
            if isinstance(leaf, (torch.SymInt, torch.SymFloat, torch.SymBool)):
                if symbols & {str(s) for s in leaf.node.expr.free_symbols}:
                    return f"which comes from node '{node.name}' ({node.target}) at {source_of(node)}"
                continue
            if not isinstance(leaf, torch.Tensor):
                continue
            for axis, dim in enumerate(leaf.shape):
                if not isinstance(dim, int) and symbols & {str(s) for s in dim.node.expr.free_symbols}:
                    if node.op == "placeholder":
                        return f"which comes from dimension {axis} of input '{node.name}'"
                    return f"which comes from node '{node.name}' ({node.target}) at {source_of(node)}"
    return "whose origin is not known"
