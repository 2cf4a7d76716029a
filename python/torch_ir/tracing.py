"""Prepares a model and its inputs for tracing, without modifying them.

The module tree is copied, but its tensors are not. Meta tensors are replaced by fake CPU tensors, so that the graph is
the one that the model has with real weights: constants created on the device of an input keep their values, and no
attribute contains the meta device.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree

from .containers import register_containers
from .errors import InvalidExampleError

ONE_AT_A_TIME = threading.RLock()
"""The lock for tracing, because PyTorch's tracing modes apply to the whole process."""
if hasattr(os, "register_at_fork"):  # the thread that holds it is not in the new process
    os.register_at_fork(after_in_child=ONE_AT_A_TIME._at_fork_reinit)  # type: ignore[attr-defined]

_PLAIN_TENSORS = (torch.Tensor, nn.Parameter, nn.Buffer) if hasattr(nn, "Buffer") else (torch.Tensor, nn.Parameter)


@dataclasses.dataclass
class TraceInputs:
    """The arguments of ``torch.export``: a module and example arguments, which may be fake."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def normalize_inputs(
    model: nn.Module, example_inputs: Any, example_kwargs: dict[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example inputs as ``(args, kwargs)``."""
    kwargs = _checked_kwargs(model, example_kwargs)
    if isinstance(example_inputs, Mapping):  # also what a tokenizer returns
        unknown = sorted(str(k) for k in example_inputs if not _accepts_keyword(model, k))
        if unknown:
            raise InvalidExampleError(
                f"example_inputs is a dict, so its keys are taken as keyword arguments, but "
                f"{get_model_name(model)}.forward{_forward_signature(model)} has no {', '.join(map(repr, unknown))}; "
                f"pass a dict argument inside a tuple: (inputs,)"
            )
        return (), {**example_inputs, **kwargs}
    if isinstance(example_inputs, (tuple, list)) and not _is_namedtuple(example_inputs):
        return tuple(example_inputs), kwargs
    if example_inputs is None:
        return (), kwargs
    return (example_inputs,), kwargs


def _checked_kwargs(model: nn.Module, given: dict[str, Any] | None) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidExampleError(
            f"example_kwargs: expected a dict of keyword arguments, got {type(given).__name__}; positional arguments "
            f"are a tuple in example_inputs"
        )
    unknown = [repr(k) for k in given if not _accepts_keyword(model, k)]
    if unknown:
        signature = f"{get_model_name(model)}.forward{_forward_signature(model)}"
        raise InvalidExampleError(f"example_kwargs: {signature} has no {', '.join(unknown)}")
    return dict(given)


def check_leaves(leaves: list[Any]) -> None:
    """Refuse NumPy arrays, for which torch.export would explain at length how to register containers, and tensors that
    are not plain ones."""
    for leaf in leaves:
        kind = type(leaf)
        if kind.__module__ == "numpy":
            shape = list(getattr(leaf, "shape", ()))
            raise InvalidExampleError(
                f"The example inputs contain a NumPy {kind.__name__} of {getattr(leaf, 'dtype', 'unknown')}{shape}; "
                f"expected tensors; pass torch.as_tensor(x)"
            )
        if isinstance(leaf, torch.Tensor) and leaf.is_nested:
            raise InvalidExampleError(
                "The example inputs contain a nested tensor; expected dense ones: "
                "torch.nested.to_padded_tensor(x, 0.0), and a mask for the model where it needs one"
            )
        if isinstance(leaf, torch.Tensor) and (leaf.is_quantized or leaf.layout not in (torch.strided, torch.jagged)):
            what, how = ("quantized", "dequantize") if leaf.is_quantized else (f"{leaf.layout}", "to_dense")
            raise InvalidExampleError(f"The example inputs contain a {what} tensor; expected dense ones: x.{how}()")


def get_model_name(model: nn.Module) -> str:
    """The name of the model's class."""
    return type(model).__name__


def _is_namedtuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _forward_signature(model: nn.Module) -> inspect.Signature:
    return inspect.signature(model.forward)


def _accepts_keyword(model: nn.Module, name: Any) -> bool:
    parameters = _forward_signature(model).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return isinstance(name, str)
    parameter = parameters.get(name)
    return parameter is not None and parameter.kind is not parameter.POSITIONAL_ONLY


def check_arguments(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse what ``forward`` cannot be called with."""
    try:
        signature = _forward_signature(model)
    except ValueError:  # of code that is not Python's
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidExampleError(
            f"The example inputs do not fit {get_model_name(model)}.forward{signature}: {error}"
        ) from None


def prepare(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TraceInputs:
    """A copy of the module tree that shares the model's tensors, or fakes those on meta."""
    fake_mode = FakeTensorMode(allow_non_fake_inputs=True)
    register_containers((args, kwargs))
    model_tensors = list(_tensors_of(model))
    on_meta = any(t.is_meta for t in model_tensors)
    device = torch.device("cpu") if on_meta else _device_of(model_tensors)
    try:
        memo: dict[int, Any] = {id(t): _fake(t, fake_mode, device) if t.is_meta else t for t in model_tensors}
        traced = copy.deepcopy(model, memo)
    except Exception:
        # Some models cannot be copied (locks, open files). Tracing the original does not modify it either.
        return TraceInputs(model, args, kwargs)
    traced.register_forward_hook(_register_output_types)

    # Each input becomes its own tensor, because torch.export treats a tensor that is passed twice as one input.
    def apart(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return _fake(x, fake_mode, device if on_meta or x.is_meta else x.device)

    args, kwargs = pytree.tree_map(apart, (args, kwargs))
    return TraceInputs(traced, args, kwargs)


def _register_output_types(_module: nn.Module, _args: Any, output: Any) -> None:
    register_containers(output)


def _tensors_of(model: nn.Module) -> Iterator[torch.Tensor]:
    """Every tensor of a module tree: parameters, buffers, and plain attributes."""
    seen: set[int] = set()
    for module in model.modules():
        owned = [*module._parameters.values(), *module._buffers.values()]
        for value in (*owned, *_plain_values(module)):
            if isinstance(value, torch.Tensor) and id(value) not in seen:
                seen.add(id(value))
                yield value


def _plain_values(module: nn.Module) -> Iterator[Any]:
    for name, value in vars(module).items():
        if name in ("_parameters", "_buffers", "_modules"):
            continue
        if isinstance(value, (list, tuple)):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()
        else:
            yield value


def _device_of(tensors: list[torch.Tensor]) -> torch.device:
    return tensors[0].device if tensors else torch.device("cpu")


def _fake(tensor: torch.Tensor, mode: FakeTensorMode, device: torch.device) -> torch.Tensor:
    """The same tensor as a fake one: shape, strides, dtype and kind, but no data."""
    if isinstance(tensor, FakeTensor) or type(tensor) not in _PLAIN_TENSORS:
        return tensor  # tensor subclasses keep their own class
    with mode:
        fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(fake, requires_grad=tensor.requires_grad)
    return fake
