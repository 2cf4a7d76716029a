"""Indices that are tensors without dimensions. PyTorch traces ``x[i]`` as a read of ``i.item()``, which no graph holds.

They are traced as tensors of one index instead, and the axis that these leave is taken away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["is_read_by_tensor", "tensors_as_indices"]

_READ, _WRITE = Tensor.__getitem__, Tensor.__setitem__
_EVERYTHING = slice(None)
_INDEX = torch.ops.aten.index.Tensor


class _TensorsAsIndices(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (_READ, _WRITE) and isinstance(args[0], Tensor):
            items = _per_axis(args[0], args[1])
            if items is not None and func == _READ:
                return _read(args[0], items)
            if items is not None:
                return _write(args[0], items, args[2])
        return func(*args, **(kwargs or {}))


@contextmanager
def tensors_as_indices(root: nn.Module) -> Iterator[None]:
    """While ``root`` is traced. PyTorch's own modes are entered before its forward, and would read the index first."""
    modes: list[_TensorsAsIndices] = []

    def enter(*_: Any) -> None:
        modes.append(_TensorsAsIndices())
        modes[-1].__enter__()

    def leave(*_: Any) -> None:
        if modes:
            modes.pop().__exit__(None, None, None)

    before = root.register_forward_pre_hook(enter)
    after = root.register_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()
        while modes:  # the call was interrupted
            leave()


def is_read_by_tensor(target: Any, indices: Any) -> bool:
    """Whether this is a call that ``x[i]`` has become. It shares no memory with ``x``, as ``x[i]`` does."""
    if target is not _INDEX:
        return False
    calls = [value.call for value in indices if value is not None]
    return len(calls) == 1 and calls[0] is not None and calls[0].target is torch.ops.aten.expand.default


def _per_axis(x: Tensor, index: Any) -> list[Any] | None:
    """What each axis is indexed with, and new axes. None if no tensor without dimensions is among it, or if it is of a
    form that is left to PyTorch."""
    items = list(index) if isinstance(index, tuple) else [index]
    if not any(map(_is_scalar, items)) or not all(map(_is_known, items)):
        return None
    count = sum(map(_axes_of, items))
    if sum(item is Ellipsis for item in items) > 1 or count > x.ndim:
        return None
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    items[at : at + 1] = [_EVERYTHING] * (x.ndim - count)
    return items


def _is_scalar(item: Any) -> bool:
    if not isinstance(item, Tensor) or item.ndim or item.dtype in (torch.bool, torch.uint8):
        return False
    return not (item.is_floating_point() or item.is_complex())


def _is_known(item: Any) -> bool:
    if isinstance(item, slice):
        return not any(isinstance(bound, Tensor) for bound in (item.start, item.stop, item.step))
    if isinstance(item, Tensor):
        return item.ndim > 0 or _is_scalar(item)
    return item is None or item is Ellipsis or type(item) is int


def _axes_of(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8) else 1


def _one_index(item: Tensor) -> Tensor:
    """``expand`` is how functionalization knows it again."""
    return (item if item.dtype in (torch.int32, torch.int64) else item.long()).expand(1)


def _read(x: Tensor, items: list[Any]) -> Tensor:
    axis = 0
    for i, item in enumerate(items):
        if _is_scalar(item):
            x = _INDEX(x, [None] * axis + [_one_index(item)])
            items[i] = 0
        axis += _axes_of(items[i])
    return x[tuple(items)]


def _is_one_among_slices(items: list[Any]) -> bool:
    others = [item for item in items if not _is_scalar(item)]
    return len(others) == len(items) - 1 and not any(isinstance(item, Tensor) for item in others)


def _write(x: Tensor, items: list[Any], value: Any) -> None:
    at = next(i for i, item in enumerate(items) if _is_scalar(item))
    if _is_one_among_slices(items):
        _write_one(x, items, at, value)
        return
    axis = sum(map(_axes_of, items[:at]))
    behind = [_EVERYTHING] * (x.ndim - axis - 1)
    part = _read(x, [_EVERYTHING] * axis + [items[at], *behind]).clone()
    rest = items[:at] + items[at + 1 :]
    if any(map(_is_scalar, rest)):
        _write(part, rest, value)
    else:
        part[tuple(rest)] = value
    _write_one(x, [_EVERYTHING] * axis + [items[at], *behind], axis, part)


def _write_one(x: Tensor, items: list[Any], at: int, value: Any) -> None:
    """A write with one tensor among slices, whole numbers and new axes."""
    if not isinstance(value, Tensor):
        value = torch.scalar_tensor(value, dtype=x.dtype, device=x.device)
    value = value.to(x.dtype)
    while value.ndim >= sum(not isinstance(item, int) for item in items) and value.shape[0] == 1:
        value = value.squeeze(0)
    behind = sum(not isinstance(item, int) for item in items[at + 1 :])
    if value.ndim > behind:
        value = value.unsqueeze(value.ndim - behind)
    index = _one_index(items[at])
    if all(item == _EVERYTHING for i, item in enumerate(items) if i != at):
        torch.ops.aten.index_put_.default(x, [None] * at + [index], value)
    else:
        items[at] = index
        x[tuple(items)] = value
