"""Values of non-persistent buffers that the caller passes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import nn

from .errors import ConversionError

MISSING_BUFFER = (
    "A buffer that no checkpoint holds comes from a model: build the one to extract under "
    "`with torch_ir.meta_weights():`, or give a real one to extract_ir(..., buffers=model) or, with a compiled "
    "program, to npu_runtime.load_weights(model, ...)"
)


def given_buffers(
    source: nn.Module | Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], known: Collection[str]
) -> dict[str, torch.Tensor]:
    """The ``wanted`` buffers that ``source`` has, copied to the CPU. A value that does not fit, or a name that is not
    ``known`` to the model, is an error."""
    if not isinstance(source, nn.Module | Mapping):
        raise ConversionError(
            f"buffers: expected a model with values or a dict of tensors by name, got {type(source).__name__}"
        )
    unknown = [] if isinstance(source, nn.Module) else [name for name in source if name not in known]
    if unknown:
        near = f"; it has {', '.join(sorted(known))[:200]}" if known else ""
        raise ConversionError(f"buffers: the model has no buffer '{unknown[0]}'{near}")
    buffers = {}
    for name, like in wanted.items():
        value = tensor_of(source, name) if isinstance(source, nn.Module) else source.get(name)
        if value is None:
            continue
        _check(name, value, like)
        buffers[name] = value.detach().cpu().clone()
    return buffers


def tensor_of(module: nn.Module, name: str) -> torch.Tensor | None:
    """The tensor at a dotted name in a module tree, registered or not."""
    owner, _, attribute = name.rpartition(".")
    try:
        value = getattr(module.get_submodule(owner), attribute)
    except AttributeError:
        return None
    return value if isinstance(value, torch.Tensor) else None


def _check(name: str, value: object, like: torch.Tensor) -> None:
    expected = f"{_kind(like)}; got"
    if not isinstance(value, torch.Tensor):
        raise ConversionError(f"buffers: '{name}' must be {expected} {type(value).__name__}")
    if value.shape != like.shape or value.dtype != like.dtype:
        raise ConversionError(
            f"buffers: '{name}' must be {expected} {_kind(value)}; "
            f"take it from a model of the same architecture and dtype"
        )
    if value.is_meta:
        raise ConversionError(
            f"buffers: '{name}' has no values, it is on meta; build the model it comes from on the CPU"
        )


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
