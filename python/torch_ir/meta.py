"""Builds models with parameters on the meta device and real buffers."""

from __future__ import annotations

import re
import threading
import weakref
from contextlib import AbstractContextManager, ContextDecorator, ExitStack
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


_NEEDS_VALUES = (
    "meta_weights(): the model's constructor computes something from the values of a weight, which are not there (at "
    "{}: {}); build it under `with torch.device('meta'):`, if a checkpoint holds what it computes, or as it is"
)


def meta_weights() -> AbstractContextManager[None]:
    """Inside the block, parameters move to the meta device when a module registers them. Buffers keep their values.

    A model built this way has everything that :func:`extract_ir` needs, including non-persistent buffers. Only the
    current thread is affected. The context may be nested, which changes nothing, and entered again later. It cannot be
    combined with ``torch.device("meta")``. A constructor that computes with a weight's values (``spectral_norm``) is
    refused. Parameters of lazy modules stay real, because their first batch creates them. Buffers of random numbers
    differ from the real model's, whatever the seed.
    """
    return _MetaWeights()


class _MetaWeights(ContextDecorator, threading.local):
    def __init__(self) -> None:
        self.entered: list[ExitStack] = []

    def __enter__(self) -> None:
        if torch.get_default_device().type == "meta":
            raise ExportError(
                "meta_weights() keeps buffers real, but the default device is meta; leave `with torch.device('meta')` "
                "first"
            )
        with ExitStack() as undo:
            handle = register_module_parameter_registration_hook(_Mover(threading.get_ident()))  # type: ignore[arg-type]
            undo.callback(handle.remove)
            undo.enter_context(_ParametersSeemReal())
            self.entered.append(undo.pop_all())

    def __exit__(self, *failure: object) -> None:
        self.entered.pop().close()


class _Mover:
    """Registers a parameter's counterpart on meta, always the same one, so that tied weights stay tied."""

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
    """Tensors that a constructor creates on the device of a weight are created on its original device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], nn.Parameter) and args[0].is_meta:
            if getattr(func, "__self__", None) is torch.Tensor.device:
                return torch.get_default_device()
            if func in _MADE_ALIKE and kwargs.get("device") is None:
                kwargs = {**kwargs, "device": torch.get_default_device()}
        try:
            return func(*args, **kwargs)
        except (RuntimeError, NotImplementedError) as error:
            leaves = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            kinds = {x.is_meta for x in leaves}
            if True not in kinds:
                raise
            failure = error
            if False in kinds and not _writes(func, kwargs):
                # A constructor that runs a layer to find a shape: its weights are on meta, but the data are not.
                try:
                    return func(*pytree.tree_map(_to_meta, args), **pytree.tree_map(_to_meta, kwargs))
                except (RuntimeError, NotImplementedError) as again:
                    failure = again
            if "meta" in str(failure):
                raise ExportError(_NEEDS_VALUES.format(getattr(func, "__name__", func), failure)) from error
            raise


def _to_meta(x: Any) -> Any:
    return x.to("meta") if isinstance(x, torch.Tensor) else x


def _writes(func: Any, kwargs: dict[str, Any]) -> bool:
    name = getattr(func, "__name__", "")
    in_place = name.startswith("__i") or name in ("__set__", "__setitem__") or re.fullmatch(r".*[^_]_", name)
    return bool(in_place) or kwargs.get("out") is not None
