"""One tensor of a checkpoint, which is read when it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from npu_base.quantization import Scheme

from npu.quantized.stored import StoredTensor, file_of
from npu.quantized.tensors import FLOATS, QuantizedTensor, dtype_name


@dataclass(frozen=True, eq=False)
class Entry:
    """A tensor of a checkpoint. ``dtype`` is that of its numbers in the file; ``scheme`` is None if it is plain.
    ``sources`` are its parts of files. If it ``is_made``, it does not lie in them as programs read it."""

    where: str
    shape: tuple[int, ...]
    dtype: str
    scheme: Scheme | None
    read: Callable[[], npt.NDArray[Any] | QuantizedTensor]
    sources: Sequence[npt.NDArray[np.uint8]] = ()
    is_made: bool = False

    def release(self) -> None:
        """Give back the memory of files that were read; what was loaded stays as it is."""
        for source in self.sources:
            file = file_of(source)
            if file is not None:
                file.release(source)

    def load(self) -> npt.NDArray[Any] | QuantizedTensor:
        """The tensor; a quantised one is checked. What lies in a file as it is used is mapped, not read."""
        tensor = self.read()
        return tensor.check(self.where) if isinstance(tensor, QuantizedTensor) else tensor

    def dequantized(self, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        tensor = self.load()
        if isinstance(tensor, QuantizedTensor):
            return tensor.dequantize(dtype)
        return tensor.astype(dtype) if dtype_name(tensor) in FLOATS else tensor


def plain_entry(stored: StoredTensor) -> Entry:
    dtype = stored.code if stored.dtype is None else stored.dtype.name
    return Entry(stored.where, stored.shape, dtype, None, lambda: stored.array, (stored.bytes,))
