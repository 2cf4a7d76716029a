"""Saved models for data frames, streams and workers: dicts of arrays in and out."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from npu_base.argument_types import AnyTensor
from npu_base.arguments import is_tensor, masked_elements, tensor_dtype
from npu_base.errors import InvalidTypeError, InvalidValueError, format_error
from npu_base.files import as_path
from npu_base.sizes import Size
from npu_runtime import Device
from npu_runtime._core import device_name

from npu.compiled_module import CompiledModule, load
from npu.options import checked_flag, checked_threads

if TYPE_CHECKING:
    import torch

__all__ = ["Predictor"]


class Predictor:
    """A function from a dict of NumPy arrays to a dict of NumPy arrays, by the model's own names.

    It loads the file at the first call, and its pickle is the path and the options, so it can be sent to workers. Any
    number of threads may call it. The options are those of ``npu.load``. Models that keep state are refused, because
    rows must not depend on those that a worker happened to see before.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        device: str | torch.device | None = None,
        threads: int = 0,
        verify: bool = False,
    ) -> None:
        if isinstance(device, Device):
            what, got = "a predictor's device must be a name, which can be sent to workers", type(device).__name__
            raise InvalidTypeError(format_error("predictor", what, got=got, expected="'cpu', 'cuda' or 'metal'"))
        device = None if device is None else device_name(device)
        if path == "":
            what, expected = "the path of a saved file is empty", "the path of a file that compiled.save wrote"
            raise InvalidValueError(format_error("predictor", what, got="''", expected=expected))
        self._path = os.path.abspath(as_path(path))  # also after os.chdir, and for a worker in another folder
        self._device = device
        self._threads, self._verify = checked_threads(threads), checked_flag("verify", verify)
        self._lock = threading.Lock()
        self._module: CompiledModule | None = None
        self._names: list[str] = []
        self._output_names: list[str] = []

    def __call__(self, columns: Mapping[str, AnyTensor]) -> dict[str, Any]:
        module = self._load()
        results = self._quickly(module, columns)
        if results is None:
            results = module.run_flat(self._arrays(module, columns))
        return dict(zip(self._output_names, results, strict=True))

    def _quickly(self, module: CompiledModule, columns: Mapping[str, AnyTensor]) -> Any:
        """Results for plain arrays that fit. None, before anything has run, for all else."""
        if type(columns) is not dict or len(columns) != len(self._names):
            return None
        arrays = tuple(map(columns.get, self._names))
        return module.runner.try_tensors(arrays) if all(type(a) is np.ndarray for a in arrays) else None

    def _arrays(self, module: CompiledModule, columns: Mapping[str, AnyTensor]) -> list[Any]:
        if not isinstance(columns, Mapping):
            what, got = "a predictor takes a dict of arrays", type(columns).__name__
            raise InvalidTypeError(format_error("predictor", what, got=got, expected=self._expected(module)))
        entries = module.signature.inputs
        unknown = [str(name) for name in columns if name not in {entry.user_name for entry in entries}]
        missing = [entry.user_name for entry in entries if entry.user_name not in columns]
        if unknown or missing:
            parts = [f"missing {', '.join(missing)}"] if missing else []
            parts += [f"unknown {', '.join(unknown)}"] if unknown else []
            what, action = "the columns do not match the inputs", "renaming or dropping columns"
            raise InvalidValueError(
                format_error("predictor", what, got="; ".join(parts), expected=self._expected(module), action=action)
            )
        return [self._array(columns[entry.user_name], entry) for entry in entries]

    def _array(self, column: Any, entry: Any) -> Any:
        if masked := masked_elements(column):
            what, got = f"column '{entry.user_name}' has masked elements", f"{masked} of {column.size}"
            action = ".filled(...), or dropping these rows"
            raise InvalidValueError(format_error("predictor", what, got=got, expected="values", action=action))
        array = column
        if not is_tensor(column):
            try:
                array = np.asarray(column)
            except ValueError as error:
                what = f"column '{entry.user_name}' is not an array"
                raise InvalidValueError(format_error("predictor", what, got=str(error))) from None
        got = f"{tensor_dtype(array)}{list(array.shape)}"
        what, expected = f"column '{entry.user_name}' does not fit", f"{entry.dtype}{list(entry.shape)}"
        if tensor_dtype(array) != entry.dtype:
            action = f".astype('{entry.dtype}'), because nothing is cast"
            raise InvalidValueError(format_error("predictor", what, got=got, expected=expected, action=action))
        if not _fits(tuple(array.shape), entry.shape):
            action = "batches of the size that the model was compiled for, or npu.compile with dynamic_shapes"
            raise InvalidValueError(format_error("predictor", what, got=got, expected=expected, action=action))
        return array

    def _expected(self, module: CompiledModule) -> str:
        return ", ".join(f"{e.user_name} {e.dtype}{list(e.shape)}" for e in module.signature.inputs)

    def _load(self) -> CompiledModule:
        if self._module is None:
            with self._lock:
                if self._module is None:
                    module = load(self._path, self._device, self._threads, verify=self._verify)
                    if module.has_state:
                        what, action = f"{self._path}: this model keeps state between calls", "npu.load"
                        raise InvalidValueError(format_error("predictor", what, action=action))
                    self._names = [entry.user_name for entry in module.signature.inputs]
                    self._output_names = module.output_names
                    self._module = module
        return self._module

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path, "device": self._device, "threads": self._threads, "verify": self._verify}

    def __setstate__(self, state: dict[str, Any]) -> None:
        path = state.pop("path")
        Predictor.__init__(self, path, **state)

    def __repr__(self) -> str:
        return f"Predictor({self._path!r}, device={self._device!r})"


def _fits(got: tuple[int, ...], expected: tuple[Any, ...]) -> bool:
    """Open sizes may be anything here; the model checks them together."""
    if len(got) != len(expected):
        return False
    return all(isinstance(want, Size) or n == want for n, want in zip(got, expected, strict=True))
