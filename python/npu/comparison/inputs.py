"""The inputs that a caller gives, by name, or in a safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npu_base.errors import NPUError
from npu_base.specs import TensorSpec
from npu_runtime import NPUBuffer, Weights
from npu_runtime.errors import InvalidTypeError, InvalidValueError, format_error
from npu_runtime.host import torch_to_numpy

from npu.comparison.saved import dtype_name, read_header

__all__ = ["check_inputs", "check_seed"]

_LARGEST_SEED = 2**63


@dataclass(frozen=True)
class _Unreadable:
    """A tensor of a dtype that no program has."""

    dtype: str
    shape: Sequence[int]


def check_inputs(specs: Sequence[TensorSpec], inputs: Any) -> dict[str, Any]:
    """As arrays; each must have the dtype and the shape of an input of the model."""
    if inputs is None:
        return {}
    if isinstance(inputs, str | os.PathLike):
        inputs = _read(os.fspath(inputs))
    if not isinstance(inputs, Mapping):
        what, expected = "inputs have the wrong type", "a dict of names to arrays, or the path of a safetensors file"
        raise InvalidTypeError(format_error("compare", what, got=type(inputs).__name__, expected=expected))
    by_name = {spec.name: spec for spec in specs}
    arrays = {}
    for name, tensor in inputs.items():
        if name not in by_name:
            expected = ", ".join(by_name) or "none; the model has no inputs"
            raise InvalidValueError(format_error("compare", "the model has no such input", got=name, expected=expected))
        array = tensor.to_numpy() if isinstance(tensor, NPUBuffer) else tensor
        array = torch_to_numpy(array) if hasattr(array, "detach") else array
        wanted = f"{by_name[name].dtype}{list(by_name[name].shape)}"
        got = f"{array.dtype}{list(array.shape)}" if hasattr(array, "dtype") else type(array).__name__
        if got != wanted:
            raise InvalidValueError(
                format_error("compare", f"input '{name}' does not fit the model", got=got, expected=wanted)
            )
        arrays[name] = array
    return arrays


def check_seed(seed: Any) -> None:
    if not isinstance(seed, int) or not 0 <= seed <= _LARGEST_SEED:
        error = InvalidValueError if isinstance(seed, int) else InvalidTypeError
        expected = "an integer from 0 to 2**63"
        raise error(format_error("compare", "the seed cannot be used", got=repr(seed), expected=expected))


def _read(path: str) -> dict[str, Any]:
    header = read_header(path)
    try:
        tensors = Weights.load(path)
        given = {name: tensors[name] for name in tensors}
        # Weights leave out tensors that no program can read; here they would become random inputs.
        others = {name: _Unreadable(dtype_name(t["dtype"]), t["shape"]) for name, t in header.items()
                  if name != "__metadata__" and name not in given}  # fmt: skip
    except (NPUError, TypeError, KeyError) as error:
        what = f"the inputs in {path} cannot be read: {str(error).removeprefix('[weights] ')}"
        raise InvalidValueError(format_error("compare", what)) from error
    return {**given, **others}
