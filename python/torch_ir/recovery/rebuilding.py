"""Rebuilds modules to compute their buffers.

Each is built twice, with different random numbers and different uninitialised memory. Buffers that then differ are
unknown.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..meta import meta_weights

PLAIN = (bool, int, float, complex, str, type(None), torch.dtype, torch.Size)
SEEDS = (0, 1)
_UNINITIALISED = {torch.empty, torch.empty_like, torch.empty_strided, torch.Tensor.new_empty}
_LARGE = 1 << 20
"""In elements. Larger tensors are weights, which take no memory on meta."""
_OF_MODULES = frozenset(vars(nn.Module()))

Pair = tuple[nn.Module, nn.Module]


def construct(cls: type[nn.Module], arguments: dict[str, Any], seed: int) -> nn.Module | None:
    try:
        copied = copy.deepcopy(arguments)  # constructors may modify their arguments
        with _repeatable(seed), meta_weights():
            return cls(**copied)
    except Exception:
        return None


def initialise(module: nn.Module, seed: int) -> nn.Module | None:
    """A copy, after ``reset_parameters``."""
    try:
        memo: dict[int, Any] = {}
        for parameter in module.parameters():
            memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for buffer in module.buffers():
            memo[id(buffer)] = _garbage(buffer, seed) if buffer.is_meta else buffer.detach().clone()
        new = copy.deepcopy(module, memo)
        with _repeatable(seed), meta_weights():
            new.reset_parameters()  # type: ignore[operator]
        return new
    except Exception:
        return None


def alike(old: nn.Module, new: nn.Module, strictly: bool = False) -> bool:
    """Whether both have the same modules, tensors (by name and shape) and plain attributes, and so the same arguments.

    ``strictly`` also compares the names of all attributes, types of objects, dtypes and persistence.
    """
    if [n for n, _ in old.named_modules()] != [n for n, _ in new.named_modules()]:
        return False
    for (_, a), (_, b) in zip(old.named_modules(), new.named_modules(), strict=True):
        if type(a) is not type(b) or _plain_attributes(a) != _plain_attributes(b):
            return False
        for table in ("_parameters", "_buffers"):
            if _shapes(getattr(a, table)) != _shapes(getattr(b, table)):
                return False
        if strictly and (
            a._non_persistent_buffers_set != b._non_persistent_buffers_set or _all_attributes(a) != _all_attributes(b)
        ):
            return False
    return True


def agreed_value(want: object, pair: Pair, attr: str, same_writes: bool = False) -> torch.Tensor | None:
    """The value that both of a pair have, unless the original was written after its construction."""
    first, second = (getattr(m, attr, None) for m in pair)
    if not (isinstance(want, torch.Tensor) and isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)):
        return None
    if want._version > first._version or (same_writes and want._version != first._version):
        return None
    if first.is_meta or first.shape != want.shape or not torch.equal(first, second):
        return None
    # The model may have been cast after it was built, so the value is cast too.
    return first.detach().to(want.dtype)


def is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(is_plain(v) for v in value)
    if isinstance(value, dict):
        return all(is_plain(v) for v in value.values())
    return isinstance(value, PLAIN)


def _shapes(tensors: dict[str, torch.Tensor | None]) -> dict[str, Any]:
    return {k: None if v is None else tuple(v.shape) for k, v in tensors.items()}


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in vars(module).items() if k != "training" and not k.startswith("_") and is_plain(v)}


def _all_attributes(module: nn.Module) -> dict[str, Any]:
    """The comparable part of each attribute. Private ones are left out, because later calls may add some."""
    return {k: _outline(v) for k, v in vars(module).items() if k not in _OF_MODULES and not k.startswith("_")}


def _outline(value: Any) -> Any:
    if is_plain(value) or isinstance(value, type):
        return value
    if isinstance(value, torch.Tensor):
        return "tensor", tuple(value.shape)
    if isinstance(value, functools.partial):
        return _outline(value.func), [_outline(v) for v in value.args], _outline(value.keywords)
    if isinstance(value, (list, tuple)):
        return [_outline(v) for v in value]
    if isinstance(value, dict):
        return {k: _outline(v) for k, v in value.items()}
    return type(value), getattr(value, "__qualname__", None)


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.device("cpu"))
        stack.enter_context(_NoUninitialisedMemory(seed))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        yield


class _NoUninitialisedMemory(TorchFunctionMode):
    """Fill uninitialised memory by the seed, because it could be the same in both builds by chance."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func not in _UNINITIALISED:
            return func(*args, **kwargs)
        shape = func(*args, **{**kwargs, "device": "meta"})
        if shape.numel() > _LARGE:
            return shape
        return _fill(func(*args, **kwargs), self.seed)


def _garbage(like: torch.Tensor, seed: int) -> torch.Tensor:
    return _fill(torch.empty(like.shape, dtype=like.dtype), seed)


def _fill(tensor: torch.Tensor, seed: int) -> torch.Tensor:
    if not tensor.is_meta:
        kind = tensor.dtype
        # Through .data, so that it does not count as a write.
        tensor.data.fill_(bool(seed) if kind == torch.bool else 3 + seed if not kind.is_floating_point else 0.7 + seed)
    return tensor
