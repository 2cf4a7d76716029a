"""Models in Python and in Hugging Face folders, for commands that trace one. Needs PyTorch."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from npu_base.commands import usage_error
from npu_base.errors import InvalidValueError, format_error
from npu_runtime.host import numpy_to_torch
from torch import nn
from torch_ir.errors import WeightLoadError
from torch_ir.model_import import import_model, load_into
from torch_ir.progress import status
from torch_ir.weight_loader import load_weights

from npu.commands.examples import Example, make_example
from npu.commands.inputs import parse_inputs
from npu.commands.open_inputs import OpenInputs
from npu.commands.pretrained import build_pretrained
from npu.commands.sources import Kind, Source
from npu.random_tensors import random_weights

__all__ = ["Traceable", "open_model"]


@dataclass(frozen=True)
class Traceable:
    module: nn.Module
    example: Example
    dynamic_shapes: dict[str, Any] | None = None


def open_model(
    source: Source, args: argparse.Namespace, *, with_weights: bool = True, open_inputs: OpenInputs | None = None
) -> Traceable:
    """The module that ``source`` names, with the inputs and weights of the arguments. ``open_inputs`` are the inputs of
    a command that takes open sizes.

    Without weights, a Hugging Face model stays on the meta device, which costs neither time nor memory.
    """
    given = parse_inputs(args.input) if open_inputs is None else open_inputs.given
    file: Path | None = args.weights if with_weights else None
    is_random = with_weights and args.random_weights
    if file is not None and is_random:
        what, got = "the weights of a model come from a file or are random", "--weights and --random-weights"
        raise usage_error(what, got, "one of the two")
    seed = getattr(args, "seed", 0)
    torch.manual_seed(seed)
    is_pretrained = source.kind == Kind.FOLDER
    with status(f"Building {source.text}"):
        if is_pretrained:
            weights = "meta" if not with_weights else "random" if file is not None or is_random else "own"
            module = build_pretrained(source.file, weights)
        else:
            module = import_model(source.text)
    example = make_example(module, given, seed, is_pretrained=is_pretrained)
    if file is not None:
        try:
            with status(f"Reading {file}"):
                load_into(module, load_weights(file), str(file))
        except WeightLoadError as error:
            raise WeightLoadError(" ".join(str(error).split())) from error  # one line
    elif with_weights and any(tensor.is_meta for _, tensor in _tensors(module)):
        _fill(module, source, is_random, seed)
    if open_inputs is None:
        return Traceable(module, example)
    parameters = inspect.signature(module.forward).parameters.values()
    own = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return Traceable(module, example, open_inputs.dynamic_shapes(example.names, own))


def _tensors(module: nn.Module, *, once: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and buffers; tied ones ``once``, or by each of their names."""
    yield from module.named_parameters(remove_duplicate=once)
    yield from module.named_buffers(remove_duplicate=once)


def _fill(module: nn.Module, source: Source, is_random: bool, seed: int) -> None:
    """Give random values to what was built without any."""
    empty = [name for name, tensor in _tensors(module) if tensor.is_meta]
    if not is_random:
        what, got = f"'{source.text}' has no weights", f"{len(empty)} tensors on the meta device, '{empty[0]}' first"
        action = "--weights FILE, or --random-weights"
        raise InvalidValueError(format_error("npu", what, got=got, expected="a model with values", action=action))
    metas = [
        {"name": name, "shape": tuple(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in _tensors(module) if tensor.is_meta
    ]  # fmt: skip
    values = random_weights(metas, seed)
    of_same: dict[int, torch.Tensor] = {}  # tied weights stay tied
    for name, tensor in [*_tensors(module, once=False)]:
        if not tensor.is_meta:
            continue
        if id(tensor) not in of_same:
            value = numpy_to_torch(values[name])
            of_same[id(tensor)] = nn.Parameter(value, False) if isinstance(tensor, nn.Parameter) else value
        owner, _, own_name = name.rpartition(".")
        setattr(module.get_submodule(owner), own_name, of_same[id(tensor)])
