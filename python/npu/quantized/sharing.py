"""Tensors of a checkpoint as weights of programs: shared with the mapped file, or made when a program is prepared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from npu_runtime import Weights, get_num_threads

from npu.quantized.stored import file_of
from npu.quantized.tensors import FLOATS, QuantizedTensor

if TYPE_CHECKING:
    from npu.quantized.entry import Entry

__all__ = ["add_tensors"]

_Array = npt.NDArray[Any]
_SMALL = 1 << 16
"""Bytes of tensors that are copied: who reads a page of a file gets those around it too."""


def add_tensors(weights: Weights, entries: Mapping[str, Entry], dtype: str | None, *, dense: bool) -> None:
    """``dtype`` is that of floating-point tensors that are not quantised; with ``dense``, none is."""
    tensors = [_Tensor(name, entry, dtype, dense) for name, entry in entries.items()]
    with ThreadPoolExecutor(get_num_threads()) as pool:  # NumPy computes without Python's lock
        for tensor, mapped in zip(tensors, pool.map(_Tensor.mapped, tensors), strict=True):
            for name, array in mapped.items():
                weights.share(name, array, file_of(array))
            tensor.defer(weights, tensor.specs.keys() - mapped.keys())


class _Tensor:
    """``specs`` has the dtype and shape of each part that programs read."""

    def __init__(self, name: str, entry: Entry, dtype: str | None, dense: bool) -> None:
        self.name, self.entry = name, entry
        if entry.scheme is not None and not dense:
            self.dtype = None
            parts = entry.scheme.parts(entry.shape)
            self.specs = {name + suffix: spec for suffix, spec in parts.items()}
        else:
            own = entry.dtype if entry.scheme is None else "float32"
            self.dtype = dtype if dtype is not None and own in FLOATS else own
            self.specs = {name: (self.dtype, [*entry.shape])}
        self._deferred: set[str] = set()
        self._waiting: dict[str, _Array] = {}

    def mapped(self) -> dict[str, _Array]:
        """The parts that lie in the file as programs read them."""
        if self.entry.is_made or (self.dtype is not None and self.dtype != self.entry.dtype):
            return {}
        parts = {name: array for name, array in self._parts() if file_of(array) is not None}
        is_small = self.entry.scheme is None and sum(array.nbytes for array in parts.values()) <= _SMALL
        return {} if is_small else parts

    def defer(self, weights: Weights, names: Iterable[str]) -> None:
        self._deferred = {*names}
        for name in self._deferred:
            weights.defer(name, *self.specs[name], partial(self._take, name))

    def _take(self, name: str) -> _Array:
        """All parts are made at once; each is given to the first who asks for it, and then forgotten."""
        if name not in self._waiting:
            parts = [(part, array) for part, array in self._parts() if part in self._deferred]
            self._waiting = {part: array if file_of(array) is None else array.copy() for part, array in parts}
            self.entry.release()
        return self._waiting.pop(name)

    def _parts(self) -> list[tuple[str, _Array]]:
        tensor = self.entry.load()
        if isinstance(tensor, QuantizedTensor) and self.dtype is None:
            return [*tensor.parts(self.name)]
        numbers: _Array = tensor.dequantize() if isinstance(tensor, QuantizedTensor) else tensor
        if self.dtype in FLOATS:
            numbers = numbers.astype(FLOATS[self.dtype], copy=False)
        return [(self.name, numbers)]
