"""Finds the weights that share memory without being one tensor, such as a buffer that is a view of another one."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

__all__ = ["overlapping_weights"]


def overlapping_weights(exported: ExportedProgram) -> list[tuple[Any, Any]]:
    """Pairs of input specs of the program. One tensor under several names is no such pair."""
    by_memory: dict[int, list[tuple[Any, torch.Tensor]]] = defaultdict(list)
    for spec in exported.graph_signature.input_specs:
        target = spec.target
        tensor: Any = exported.state_dict.get(target, exported.constants.get(target)) if target is not None else None
        if type(tensor) in (torch.Tensor, nn.Parameter) and tensor.layout == torch.strided and tensor.numel():
            by_memory[tensor.untyped_storage()._cdata].append((spec, tensor))
    return [
        (a, b)
        for group in by_memory.values() for i, (a, first) in enumerate(group) for b, second in group[i + 1 :]
        if first is not second and _overlap(first, second)
    ]  # fmt: skip


def _overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    (a_first, a_end), (b_first, b_end) = _bytes(a), _bytes(b)
    return a_first < b_end and b_first < a_end


def _bytes(x: torch.Tensor) -> tuple[int, int]:
    """The range of the memory that has its elements."""
    extent = 1 + sum((n - 1) * int(step) for n, step in zip(x.shape, x.stride(), strict=True))
    first = int(x.storage_offset())
    return first * x.itemsize, (first + extent) * x.itemsize
