"""Quantises a model: in memory, or from a folder to another, a layer at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from npu_base.argument_types import AnyTensor
from npu_base.arguments import is_tensor
from npu_base.errors import InvalidTypeError, format_error
from npu_base.files import check_new_folder
from npu_base.quantization import Scheme
from npu_runtime import get_num_threads
from npu_runtime.host import as_numpy

from npu.quantized.checkpoint import Checkpoint
from npu.quantized.choice import Choice, Roles, roles_of_module, roles_of_names
from npu.quantized.errors import refuse
from npu.quantized.mlx_folder import Planned, write_mlx
from npu.quantized.opening import open_checkpoint
from npu.quantized.packing import pack_rows
from npu.quantized.rounding import decibels, round_weight
from npu.quantized.stored import CODES
from npu.quantized.tensors import FLOATS, QuantizedTensor, dtype_name

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LayerReport", "QuantizedWeights", "quantize", "quantize_folder"]

Progress = Callable[[str, int, int], None]
"""Called with a description, the number of bytes done, and the total."""


@dataclass(frozen=True)
class LayerReport:
    """How close a quantised weight is: the ratio of its power to that of the error, in decibels."""

    layer: str
    scheme: Scheme
    shape: tuple[int, ...]
    snr: float
    plain_bytes: int
    bytes: int


class QuantizedWeights(Mapping[str, Any]):
    """The tensors of a model by name: a ``QuantizedTensor``, or what was given if it is not quantised."""

    def __init__(self, tensors: dict[str, Any], report: list[LayerReport]) -> None:
        self._tensors, self.report = tensors, report

    def __getitem__(self, name: str) -> Any:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"QuantizedWeights({len(self)} tensors, {len(self.schemes)} quantised)"

    @property
    def schemes(self) -> dict[str, Scheme]:
        return {name: t.scheme for name, t in self._tensors.items() if isinstance(t, QuantizedTensor)}

    def save(self, folder: str | os.PathLike[str], config: Mapping[str, Any] | None = None) -> None:
        """Write a new folder as MLX has them. ``config`` is that of the model (``model.config.to_dict()``)."""
        unique = {_identity(tensor): name for name, tensor in reversed(self._tensors.items())}  # tied ones once
        arrays = {name: _array(self._tensors[name]) for name in reversed(unique.values())}
        planned: dict[str, Planned] = {
            name: (array.shape, array.scheme if isinstance(array, QuantizedTensor) else array.dtype)
            for name, array in arrays.items()
        }
        write_mlx(folder, config or {}, planned, arrays.items())


def quantize(
    model: nn.Module | Mapping[str, AnyTensor],
    *,
    bits: int = 4,
    group: int = 64,
    embeddings: bool = True,
    head: bool = True,
    exclude: Sequence[str] = (),
    layers: Mapping[str, int | tuple[int, int]] | None = None,
    scale_dtype: str | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> QuantizedWeights:
    """Quantise the weights of linear layers and embeddings of an ``nn.Module`` or a state dict.

    Each group of ``group`` weights along a row becomes integers of ``bits`` bits, a scale and a bias, which are
    searched for: the squared error is small. ``exclude`` are patterns of layers that stay as they are, such as
    ``"*.down_proj"``; ``layers`` gives bits, or bits and a group size, to those that match a pattern. ``embeddings``
    and ``head`` say whether those are quantised. Layers of a state dict are told apart by their names.

    Raises:
        InvalidTypeError: ``model`` is neither a module nor a state dict.
        InvalidValueError: an option is wrong, or a weight is not finite.
    """
    choice = Choice(bits, group, embeddings, head, exclude, layers or {}, scale_dtype)
    if hasattr(model, "named_modules") and hasattr(model, "state_dict"):
        tensors, roles = dict(model.state_dict()), roles_of_module(model)
    elif isinstance(model, Mapping):
        tensors = dict(model)
        roles = roles_of_names({name: tensor.shape for name, tensor in tensors.items() if hasattr(tensor, "shape")})
    else:
        expected = "an nn.Module, or a dict of tensors"
        raise InvalidTypeError(
            format_error("quantize", "this cannot be quantised", got=type(model).__name__, expected=expected)
        )
    tensors = {name: tensor for name, tensor in tensors.items() if is_tensor(tensor)}
    on_meta = next((name for name, tensor in tensors.items() if getattr(tensor, "is_meta", False)), None)
    if on_meta is not None:
        refuse(f"tensor '{on_meta}'", "is on the meta device", expected="tensors with values")
    facts = {name: (tuple(tensor.shape), dtype_name(tensor)) for name, tensor in tensors.items()}
    schemes = _of_tied(_schemes(choice, facts, roles), tensors)
    work = _Work(threads, progress, sum(_plain_bytes(*facts[name]) for name in schemes))
    done: dict[object, QuantizedTensor] = {}  # of tensors that have two names
    for name, scheme in schemes.items():
        key = _identity(tensors[name])
        if key not in done:
            done[key] = work.quantize(name, as_numpy(tensors[name]), scheme)
        tensors[name] = done[key]
    return QuantizedWeights(tensors, work.report)


def quantize_folder(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    choice: Choice,
    *,
    threads: int = 0,
    progress: Progress | None = None,
    roles_of: Callable[[Checkpoint], Roles] | None = None,
) -> list[LayerReport]:
    """Quantise the model in a folder into a new folder as MLX has them, which is written completely or not at all."""
    check_new_folder(output)  # before the work, which may take minutes
    source = open_checkpoint(folder)
    if source.schemes:
        refuse(source.path, "the model is quantised already", got=source.format)
    if source.path.is_file():
        refuse(source.path, "only folders can be quantised", got=source.format)  # its tokenizer would be lost
    facts = {name: (entry.shape, entry.dtype) for name, entry in source.items()}
    roles = roles_of(source) if roles_of else roles_of_names({name: shape for name, (shape, _) in facts.items()})
    schemes = _schemes(choice, facts, roles)
    for entry in source.values():
        if entry.dtype not in CODES:
            refuse(entry.where, "has a dtype that is not supported", got=entry.dtype)
    planned: dict[str, Planned] = {
        name: (entry.shape, schemes.get(name) or _dtype(entry.dtype)) for name, entry in source.items()
    }
    work = _Work(threads, progress, sum(_plain_bytes(*fact) for fact in facts.values()))

    def tensors() -> Iterator[tuple[str, npt.NDArray[Any] | QuantizedTensor]]:
        for name, entry in source.items():
            array = entry.load()
            assert not isinstance(array, QuantizedTensor)
            if name in schemes:
                yield name, work.quantize(name, array, schemes[name])
            else:
                yield name, array
                work.advance(array.nbytes)
            entry.release()

    write_mlx(output, source.config, planned, tensors(), Path(folder))
    return work.report


def _schemes(choice: Choice, facts: Mapping[str, tuple[tuple[int, ...], str]], roles: Roles) -> dict[str, Scheme]:
    known = {name: role for name, role in roles.items() if name in facts and facts[name][1] in FLOATS}
    known = {name: role for name, role in known.items() if len(facts[name][0]) == 2}
    if not known:
        refuse("the model", "has no weights that can be quantised", expected="linear layers or embeddings of floats")
    return choice.schemes(facts, known)


class _Work:
    """Quantises tensor by tensor, and keeps account."""

    def __init__(self, threads: int, progress: Progress | None, total: int) -> None:
        self.report: list[LayerReport] = []
        self._threads, self._progress = threads or get_num_threads(), progress
        self._done, self._total = 0, total
        self.advance(0)

    def quantize(self, name: str, weight: npt.NDArray[Any], scheme: Scheme) -> QuantizedTensor:
        layer = name.removesuffix(".weight")
        rounded = round_weight(weight, scheme.bits, scheme.group, scheme.scale_dtype, self._threads)
        if not isfinite(rounded.squared_norm):
            refuse(f"layer '{layer}'", "has weights that are not finite")
        packed = pack_rows(rounded.integers, scheme.bits)
        result = QuantizedTensor(scheme, weight.shape, packed, rounded.scales, rounded.biases)
        result.check(f"layer '{layer}', quantised")
        snr = decibels(rounded.squared_norm, rounded.squared_error)
        self.report.append(LayerReport(layer, scheme, weight.shape, snr, weight.nbytes, result.nbytes))
        self.advance(weight.nbytes)
        return result

    def advance(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress("quantising", self._done, self._total)


def _plain_bytes(shape: Sequence[int], dtype: str) -> int:
    return prod(shape) * _dtype(dtype).itemsize


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(FLOATS.get(name, name))


def _of_tied(schemes: dict[str, Scheme], tensors: Mapping[str, Any]) -> dict[str, Scheme]:
    """Without tensors that are to stay as they are under another name."""
    kept = {_identity(tensor) for name, tensor in tensors.items() if name not in schemes}
    return {name: scheme for name, scheme in schemes.items() if _identity(tensors[name]) not in kept}


def _array(tensor: Any) -> npt.NDArray[Any] | QuantizedTensor:
    return tensor if isinstance(tensor, QuantizedTensor) else as_numpy(tensor)


def _identity(tensor: Any) -> object:
    """Equal for two names of one tensor."""
    address = int(tensor.data_ptr()) if hasattr(tensor, "data_ptr") else 0
    return (address, tuple(tensor.shape)) if address else id(tensor)
