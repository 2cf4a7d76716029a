"""Finds the weights that share memory without being one tensor, such as a buffer that is a view of another one."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

__all__ = ["overlapping_weights"]


def overlapping_weights(exported: ExportedProgram) -> list[tuple[Any, Any]]:
    """Pairs of input specs of the program. One tensor under several names is no such pair."""
    by_memory: dict[int, list[tuple[int, int, Any, torch.Tensor]]] = defaultdict(list)
    for spec in exported.graph_signature.input_specs:
        target = spec.target
        tensor: Any = exported.state_dict.get(target, exported.constants.get(target)) if target is not None else None
        if type(tensor) in (torch.Tensor, nn.Parameter) and tensor.layout == torch.strided and tensor.numel():
            by_memory[tensor.untyped_storage()._cdata].append((*_bytes(tensor), spec, tensor))
    return [pair for group in by_memory.values() for pair in _overlaps(group)]


def _overlaps(group: list[tuple[int, int, Any, torch.Tensor]]) -> Iterator[tuple[Any, Any]]:
    """By their beginnings, so that thousands of weights in one memory take no longer than they must."""
    group.sort(key=lambda one: one[0])
    for i, (_, end, a, first) in enumerate(group):
        for begin, _, b, second in itertools.islice(group, i + 1, None):
            if begin >= end:
                break
            if first is not second:
                yield a, b


def _bytes(x: torch.Tensor) -> tuple[int, int]:
    """The range of the memory that has its elements."""
    extent = 1 + sum((n - 1) * int(step) for n, step in zip(x.shape, x.stride(), strict=True))
    first = int(x.storage_offset())
    return first * x.itemsize, (first + extent) * x.itemsize
