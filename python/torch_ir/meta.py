"""Models whose parameters take no memory and whose buffers are real."""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import UninitializedParameter
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .errors import ExportError

_MADE_ALIKE = {
    torch.empty_like,
    torch.full_like,
    torch.ones_like,
    torch.rand_like,
    torch.randn_like,
    torch.zeros_like,
    torch.Tensor.new_empty,
    torch.Tensor.new_full,
    torch.Tensor.new_ones,
    torch.Tensor.new_tensor,
    torch.Tensor.new_zeros,
}


@contextmanager
def meta_weights() -> Iterator[None]:
    """Inside, each parameter goes to the meta device as a module takes it; buffers keep their values.

    A model that is built so has what :func:`extract_ir` needs, the buffers that no checkpoint holds included. Only the
    thread that entered is affected. Nothing else may put tensors on meta: not ``torch.device("meta")`` around it.
    A buffer of random numbers holds other ones than the real model's, whatever the seed.
    """
    if torch.get_default_device().type == "meta":
        raise ExportError(
            "meta_weights() keeps buffers real, but the default device is meta; leave `with torch.device('meta')` first"
        )
    move = _Mover(threading.get_ident())
    handle = register_module_parameter_registration_hook(move)  # type: ignore[arg-type]
    try:
        with _ParametersSeemReal():
            yield
    finally:
        handle.remove()


class _Mover:
    """Gives a module a parameter's double on meta, the same one each time, so that ties stay ties."""

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.doubles: dict[int, tuple[weakref.ref[Any], nn.Parameter]] = {}

    def __call__(self, module: nn.Module, name: str, parameter: Any) -> nn.Parameter | None:
        if (
            threading.get_ident() != self.thread
            or parameter is None
            or parameter.is_meta
            or isinstance(parameter, UninitializedParameter)
        ):
            return None
        known = self.doubles.get(id(parameter))
        if known is not None and known[0]() is parameter:
            return known[1]
        double = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
        double.__dict__.update(parameter.__dict__)
        self.doubles[id(parameter)] = weakref.ref(parameter), double
        return double


class _ParametersSeemReal(TorchFunctionMode):
    """What a constructor makes "on the device of a weight" is made where the weight would have been."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], nn.Parameter) and args[0].is_meta:
            if getattr(func, "__self__", None) is torch.Tensor.device:
                return torch.get_default_device()
            if func in _MADE_ALIKE and kwargs.get("device") is None:
                kwargs = {**kwargs, "device": torch.get_default_device()}
        try:
            return func(*args, **kwargs)
        except (RuntimeError, NotImplementedError):
            leaves = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            if len({x.is_meta for x in leaves}) != 2 or _writes(func, kwargs):
                raise
            # A constructor that runs a layer to learn its shape: the weights on meta and the data are not.
            args, kwargs = pytree.tree_map(lambda x: x.to("meta") if isinstance(x, torch.Tensor) else x, (args, kwargs))
            return func(*args, **kwargs)


def _writes(func: Any, kwargs: dict[str, Any]) -> bool:
    name = getattr(func, "__name__", "")
    in_place = name.startswith("__i") or name in ("__set__", "__setitem__") or re.fullmatch(r".*[^_]_", name)
    return bool(in_place) or kwargs.get("out") is not None
