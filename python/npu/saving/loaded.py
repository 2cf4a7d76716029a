"""Models from saved files. PyTorch is used only if the caller has imported it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from npu_base.errors import InvalidTypeError, format_error
from npu_runtime import Device, Executor, NPUBuffer, Profiler
from npu_runtime._core import TensorCall, fetch

from npu.saving.container import Container
from npu.saving.model import Model, open_model
from npu.saving.signature import Signature
from npu.saving.structure import Arguments, Classes, rebuild

__all__ = ["LoadedModule", "load", "unpickled"]


class LoadedModule:
    """A callable with the arguments and results of the module that was saved.

    Results are torch tensors if an argument is one, otherwise NumPy arrays. As in a compiled module, buffers that the
    model writes are kept in a session of this object; ``reset()`` restores their saved values.
    """

    def __init__(self, model: Model, executor: Executor, classes: Iterable[type] = (), threads: int = 0) -> None:
        self.executor, self.weights, self.program = executor, model.weights, executor.program
        self.model, self._threads = model, threads
        self._arguments = Arguments(model.signature)
        self._names = [entry.name for entry in model.signature.inputs]
        self._result_names = [entry.name for entry in model.signature.outputs]
        self._structure = model.signature.output_structure
        self._given_classes = tuple(classes)
        self._classes = Classes(self._given_classes, self._structure)
        # Without state, threads need no common session and do not wait for each other.
        self._session = executor.session() if any(spec.state for spec in executor.program.inputs) else None
        self._lock = threading.Lock()
        self._tensor_call: TensorCall | None = None
        executor.prepare(model.weights)

    @property
    def signature(self) -> Signature:
        return self.model.signature

    @property
    def result_names(self) -> list[str]:
        """The user's names of the results. A name that two of them share is that of the first."""
        names: list[str] = []
        for entry in self.model.signature.outputs:
            names.append(entry.user_name if entry.user_name not in names else entry.name)
        return names

    @property
    def has_state(self) -> bool:
        return self._session is not None

    def run_flat(self, arrays: Sequence[Any]) -> list[Any]:
        """Run on arrays in the order of the signature; results as NumPy arrays, in the order of the signature."""
        return [buffer.to_numpy() for buffer in fetch(self._buffers(tuple(arrays)))]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        results = self._run(self._arguments.bind(args, kwargs))
        return results if self._structure is None else rebuild(self._structure, results, self._classes)

    def _run(self, tensors: tuple[Any, ...]) -> Sequence[Any]:
        torch = sys.modules.get("torch")
        if torch is not None and any(isinstance(tensor, torch.Tensor) for tensor in tensors):
            return self._run_torch(torch, tensors)
        return self.run_flat(tensors)

    def _run_torch(self, torch: Any, tensors: tuple[Any, ...]) -> Sequence[Any]:
        if self._tensor_call is None:
            runner = self.executor if self._session is None else self._session
            self._tensor_call = TensorCall(runner, self._names, self._result_names, torch.Tensor)
        if self._session is None:
            results = self._tensor_call.run(tensors, self.weights)
        else:
            with self._lock:
                results = self._tensor_call.run(tensors, self.weights)
        if results is not None:
            return results
        buffers = self._buffers(tensors)
        if not any(getattr(tensor, "is_cuda", False) for tensor in tensors):
            buffers = fetch(buffers)
        return tuple(torch.utils.dlpack.from_dlpack(buffer) for buffer in buffers)

    def _buffers(self, tensors: tuple[Any, ...]) -> list[NPUBuffer]:
        inputs = dict(zip(self._names, tensors, strict=True))
        if self._session is None:
            outputs = self.executor.run(inputs, self.weights)
        else:
            with self._lock:
                outputs = self._session.run(inputs, self.weights)
        return [outputs[name] for name in self._result_names]

    def profile(self, *args: Any, **kwargs: Any) -> Profiler:
        """Profile one run; print the result with ``.print_summary()``."""
        profiler = Profiler(self.executor)
        tensors = self._arguments.bind(args, kwargs)
        profiler.run(dict(zip(self._names, tensors, strict=True)), self.weights)
        return profiler

    def reset(self) -> None:
        if self._session is not None:
            self._session.reset()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file again, with the weights that this object has."""
        self.model.save(path)

    def __reduce__(self) -> tuple[Any, ...]:
        device = self.executor.device.kind
        return unpickled, (self.model.to_bytes(), device, self._threads, self._given_classes)

    def __repr__(self) -> str:
        return f"LoadedModule({self.model.name!r}, {self.executor!r})"


def load(
    path: str | os.PathLike[str],
    device: Device | str | None = None,
    threads: int = 0,
    classes: Iterable[type] = (),
    *,
    verify: bool = False,
) -> LoadedModule:
    """Load a model that ``compiled.save`` wrote, for ``device`` (by default the best one available).

    The file is mapped: weights are read when they are used, and devices that can read them in the file make no copy.
    The checksums of all sections but the weights are always verified; ``verify`` also reads and verifies the weights.

    Named tuples and dataclasses among the results are rebuilt if their class is among ``classes`` or imported already.
    Nothing is imported because a file names it; without the class, they are other named tuples, and dicts.
    """
    if not isinstance(path, str | os.PathLike):
        got, expected = type(path).__name__, "the path of a file that compiled.save wrote"
        raise InvalidTypeError(format_error("saved", "a path has the wrong type", got=got, expected=expected))
    return _load(Container.open(path), device, threads, classes, verify)


def _load(
    container: Container, device: Device | str | None, threads: int, classes: Iterable[type], verify: bool
) -> LoadedModule:
    model, program = open_model(container, verify=verify)
    target = device if isinstance(device, Device) else Device(device)
    return LoadedModule(model, Executor(program, target, threads=threads), classes, threads)


def unpickled(data: bytes, device: str, threads: int, classes: Iterable[type] = ()) -> LoadedModule:
    """A pickle of a module has the bytes of its file, and names the device that it was on."""
    return _load(Container.from_bytes(data), device, threads, classes, True)
