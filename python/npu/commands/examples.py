"""Example inputs for tracing a model, from the --input of a command. Needs PyTorch."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from npu_base.errors import InvalidValueError, format_error
from npu_base.specs import TensorSpec
from npu_runtime.host import numpy_to_torch
from torch import Tensor, nn
from torch_ir.errors import ExportError, SizeOneError, SizesError

from npu.commands.inputs import GivenInput, read_array
from npu.random_tensors import random_inputs

__all__ = ["Example", "make_example"]

_INTEGERS = ("_ids", "_mask")  # the ends of names that transformers gives to integer inputs
_SIZES = {"input_ids": "1,128", "pixel_values": "1,3,224,224", "input_values": "1,16000", "input_features": "1,80,3000"}


@dataclass(frozen=True)
class Example:
    args: tuple[Tensor, ...]
    kwargs: dict[str, Tensor]
    names: tuple[str, ...] = ()  # of all of them

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Say in errors of tracing which inputs the model was given: their sizes or dtypes may be wrong for it."""
        try:
            yield
        except ExportError as error:
            tensors = [*self.args, *self.kwargs.values()]
            got = ", ".join(f"{n} {_dtype_of(t)}{list(t.shape)}" for n, t in zip(self.names, tensors, strict=True))
            message = error.needs if isinstance(error, SizesError) else str(error)
            text = f"{' '.join(message.split()).rstrip('.')}; got {got or 'no inputs'}"
            if isinstance(error, SizesError):
                text += f"; try {_options_for(error)}"
            elif type(error.__cause__) is RuntimeError:  # of an operator, which refuses what it was given
                text += "; try an --input with other sizes, or a dtype, such as 1,128:int64"
            raise ExportError(text) from error


def _options_for(error: SizesError) -> str:
    """What to write where a model does not support the sizes that --input leaves open."""
    texts = []
    for fix in error.fixes:
        if fix.value is not None or fix.expression:
            text = str(fix.value) if fix.value is not None else fix.expression.replace(" ", "")
            texts.append(f"{text} for {fix.name} in --input")
        else:
            texts.append(f"--size {fix.name}={1 if fix.least is None else fix.least}-{fix.most or ''}")
    if isinstance(error, SizeOneError):
        texts.append("a file of its own for size 1")
    return ", ".join(texts) or "one name in --input for sizes that are equal, or a number, which fixes the size"


def make_example(module: nn.Module, given: Sequence[GivenInput], seed: int, *, is_pretrained: bool) -> Example:
    """Tensors for ``module.forward``: the values of files, and random ones of the given sizes. Integers are zero.

    The default dtype is that of the model's weights. Integer inputs of a pretrained model are known by their names.
    """
    parameters = inspect.signature(module.forward).parameters
    _check(module, given, parameters, is_pretrained)
    unnamed = [one for one in given if one.name is None]
    names = [*parameters, *(f"input {i}" for i in range(len(parameters), len(unnamed)))][: len(unnamed)]
    named = [*zip(names, unnamed, strict=True), *((one.name, one) for one in given if one.name is not None)]
    own = next((_dtype_of(p) for p in module.parameters() if p.is_floating_point()), "float32")
    files, specs = {}, []
    for name, one in named:
        dtype = one.dtype or ("int64" if is_pretrained and name.endswith(_INTEGERS) else own)
        specs.append(TensorSpec(name, one.shape, dtype))
        if one.file is not None:
            files[name] = read_array(one.file, dtype if dtype == "bfloat16" else None)
    arrays = random_inputs(specs, seed, files)
    tensors = {name: _tensor(array, name) for name, array in arrays.items()}
    args = tuple(tensors[name] for name in names)
    return Example(args, {n: t for n, t in tensors.items() if n not in names}, tuple(tensors))


def _dtype_of(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _tensor(array: Any, name: str) -> Tensor:
    try:
        tensor: Tensor = numpy_to_torch(array)
    except TypeError as error:
        _refuse(f"PyTorch has no tensors for input '{name}'", f"dtype {array.dtype}", f"another dtype ({error})")
    return tensor


def _check(
    module: nn.Module, given: Sequence[GivenInput], parameters: Mapping[str, inspect.Parameter], is_pretrained: bool
) -> None:
    """Whether the inputs fit the arguments of forward: their number and names."""
    own = [name for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    kind, arguments = type(module).__name__, ", ".join(own) or "no arguments"
    unnamed = [one for one in given if one.name is None]
    named = {one.name: one for one in given if one.name is not None}
    problem = ""
    try:
        inspect.Signature(list(parameters.values())).bind(*unnamed, **named)
        if is_pretrained:  # its forward takes anything, and ignores what it does not know
            problem = next((f" (there is no argument {name!r})" for name in named if name not in own), "")
        # Arguments of a pretrained model are optional, but not all of them together.
        if not problem and (given or not is_pretrained):
            return
    except TypeError as error:
        problem = f" ({error})"
    got = " ".join(f"--input {one.text}" for one in given) or "no --input"
    first = getattr(module, "main_input_name", None) or next(iter(own), "")
    action = f"--input {first}={_usual_sizes(module, first)}" if first and not given else None
    what = f"the inputs do not fit {kind}.forward" if given else f"{kind} needs example inputs to be traced"
    expected = f"an input for each argument that the model needs; forward takes {arguments:.300}"
    raise InvalidValueError(format_error("npu", what, got=got + problem, expected=expected, action=action))


def _usual_sizes(module: nn.Module, name: str) -> str:
    config = getattr(module, "config", None)
    size = getattr(config, "image_size", None)
    if name == "pixel_values" and isinstance(size, int):
        return f"1,{getattr(config, 'num_channels', 3)},{size},{size}"
    return _SIZES.get(name, "SIZES")


def _refuse(what: str, got: str, expected: str) -> NoReturn:
    raise InvalidValueError(format_error("npu", what, got=got, expected=expected))
