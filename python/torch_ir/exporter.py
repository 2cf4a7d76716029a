"""Exports a model with ``torch.export``."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from npu_base.argument_types import DynamicShapes, ExampleInputs
from npu_base.errors import is_program
from torch import nn
from torch.export import ExportedProgram
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from .advice import of_failed_export, of_inputs, of_numbers, place_of
from .eager import layers_as_written
from .errors import ExportError, InvalidExampleError, InvalidModelError
from .open_shapes import any_size, refused_range
from .pytorch_bugs import worked_around
from .quiet import quiet_export
from .side_effects import SideEffects, watched
from .tensor_indices import tensors_as_indices
from .tracing import ONE_AT_A_TIME, check_arguments, check_leaves, get_model_name, normalize_inputs, prepare

__all__ = [
    "ExportError",
    "export_model",
    "get_model_name",
    "is_meta_module",
    "is_meta_tensor",
    "validate_inputs_meta",
    "validate_meta_device",
]


def is_meta_tensor(t: Any) -> bool:
    return isinstance(t, torch.Tensor) and t.is_meta


def is_meta_module(m: nn.Module) -> bool:
    """Whether every parameter and buffer is on meta."""
    return all(t.is_meta for t in (*m.parameters(), *m.buffers()))


def validate_meta_device(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_meta:
            raise InvalidModelError(
                f"Model must be on meta device, but '{name}' is on {tensor.device}. Build it under "
                f"`with torch.device('meta'):`, or pass strict=False to trace it where it is"
            )


def validate_inputs_meta(inputs: Any) -> None:
    for i, leaf in enumerate(pytree.tree_leaves(inputs)):
        if isinstance(leaf, torch.Tensor) and not leaf.is_meta:
            raise InvalidExampleError(
                f"Input tensor at index {i} must be on meta device, but it is on {leaf.device}. Make it with "
                f"device='meta', or pass strict=False"
            )


def check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise InvalidModelError(f"Expected a torch.nn.Module, got {type(model).__name__}{_not_a_module(model)}")


def export_model(
    model: nn.Module,
    example_inputs: ExampleInputs,
    example_kwargs: dict[str, Any] | None = None,
    *,
    strict: bool = True,
    dynamic_shapes: DynamicShapes = None,
    found: SideEffects | None = None,
) -> ExportedProgram:
    """``torch.export`` of a model, on any device, with any form of inputs, and static shapes unless they are given.

    ``strict`` requires the model and its inputs to be on meta. Neither is modified. ``found`` gets what the model's
    code changes besides tensors.

    Raises:
        ExportError: PyTorch cannot trace the model, or the inputs do not fit it.
    """
    check_model(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise InvalidModelError("A ScriptModule has no Python code to trace; pass the nn.Module that it was made from")
    _refuse_lazy(model)
    if any(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda", "mps") if _has_autocast(kind)):
        raise ExportError("Autocast is active during extraction; disable it, or use it inside the model's forward")
    args, kwargs = normalize_inputs(model, example_inputs, example_kwargs)
    if strict:
        validate_meta_device(model)
        validate_inputs_meta((args, kwargs))
    leaves = pytree.tree_leaves((args, kwargs), is_leaf=_is_packed)
    packed = of_inputs(leaves)
    if packed is not None:
        raise InvalidExampleError(f"Failed to export model: the inputs hold a packed sequence: {packed}")
    check_leaves(leaves)
    check_arguments(model, args, kwargs)
    ready, effects = prepare(model, args, kwargs), SideEffects() if found is None else found
    try:
        with ONE_AT_A_TIME, worked_around(), quiet_export(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            # Recurrent layers rebuild their list of parameters while they are fake, which loses no state.
            warnings.filterwarnings("ignore", message=r"The tensor attributes? self\S*_flat_weights")
            sizes = any_size() if dynamic_shapes else contextlib.nullcontext()
            with sizes, watched(ready.model, effects), tensors_as_indices(ready.model), _as_called():
                exported = torch.export.export(
                    ready.model, ready.args, ready.kwargs, strict=False, dynamic_shapes=dynamic_shapes
                )
    except Exception as e:
        refused = refused_range(str(e))
        if refused is not None:
            raise refused from e
        raise ExportError(f"Failed to export model: {_explain(e, model)}{of_numbers(e, leaves)}") from e
    effects.check()
    return exported


@contextlib.contextmanager
def _as_called() -> Iterator[None]:
    """As a call for inference, and as the code is written."""
    with torch.no_grad(), layers_as_written():
        yield


def _refuse_lazy(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise InvalidModelError(
                f"The tensor '{name}' of {get_model_name(model)} has no shape yet: lazy modules learn it from a "
                f"first batch; call the model once with a real batch, then extract it"
            )


def _has_autocast(kind: str) -> bool:
    return torch.amp.autocast_mode.is_autocast_available(kind)


def _not_a_module(given: Any) -> str:
    if isinstance(given, type) and issubclass(given, nn.Module):
        return f"; make one of the class: {given.__name__}(...)"
    if is_program(given):
        return "; it is a compiled program, run it with npu_runtime.Executor(program, Device())"
    if hasattr(given, "graph_inputs"):
        return "; it is an IR already, compile it with npu_compiler.compile"
    if callable(given):
        return "; put the function into the forward of a Module"
    return ""


def _is_packed(x: Any) -> bool:
    return isinstance(x, nn.utils.rnn.PackedSequence)


def _explain(error: Exception, model: nn.Module) -> str:
    text = str(error).strip() or type(error).__name__
    place, advice = place_of(error), of_failed_export(error)
    if advice is not None:
        at = "" if place is None else f", at {place}"
        return f"{advice} ({type(error).__name__}: {_first_line(text).rstrip('.')}{at})"
    if isinstance(error, TypeError) and "forward()" in text:
        return f"{text} (called as {get_model_name(model)}.forward)"
    if _NAN_RESULT.search(text):
        return "the model returns the number nan, which torch.export loses; return a tensor: torch.tensor(float('nan'))"
    place = place_of(error)
    if (
        match := _NO_RESULT.search(text)
        or _NO_REFERENCE.search(text)
        or (_NO_NODE.search(text) if place is None else None)
    ):
        return (
            f"the model returns an instance of {match[1]}; expected tensors, numbers, text, None, and "
            f"tuples, lists, dicts and dataclasses of them"
        )
    if "data-dependent" in text:
        return f"{type(error).__name__}: {_undecided(text, place)}"
    where = "" if place is None else f" (at {place})"
    if isinstance(error, ExportError):
        return f"{text}{where}"
    return f"{type(error).__name__}: {text.rstrip('.') if where else text}{where}"


_NO_RESULT = re.compile(r"Found <class '([\w.]+)'> in output, which is not a known type")
_NO_REFERENCE = re.compile(r"^cannot create weak reference to '([\w.]+)' object$")
_NO_NODE = re.compile(r"^'([\w.]+)' object has no attribute 'meta'$")
"""What PyTorch says of results that are neither tensors nor constants it knows."""
_NAN_RESULT = re.compile(r"User output nan is not in the correct order")
_UNHINTED = re.compile(r" *\(unhinted: .*")


def _first_line(text: str) -> str:
    return text.splitlines()[0]


def _undecided(text: str, place: str | None) -> str:
    """PyTorch's long message about a guard, without the parts for its own developers."""
    what = "the model decides by a tensor's contents; use torch.where or torch.cond there"
    where = "" if place is None else f". It was at {place}"
    return f"{what}{where}. {_UNHINTED.sub('', _first_line(text))}"
