"""The callable that ``npu.compile`` returns."""

from __future__ import annotations

import os
import threading
from typing import Any

import npu_compiler
from npu_runtime import Executor, Profiler, Weights
from npu_runtime._core import TensorCall, fetch
from torch import Tensor
from torch.utils.dlpack import from_dlpack
from torch_ir import IR, serialize_ir
from torch_ir.inputs import InputBinder
from torch_ir.structure import rebuild

from npu.saving.loaded import unpickled
from npu.saving.model import Model
from npu.saving.signature import make_signature

__all__ = ["CompiledModule"]


class CompiledModule:
    """A callable with the arguments and results of the module's ``forward``, in plain tuples, lists and dicts.

    It has the module's weights at the time of compilation. Results are on the GPU of CUDA inputs, else on the CPU.
    Buffers that the module writes are kept in a session of this object; ``reset()`` restores their values of that time.
    """

    def __init__(
        self, ir: IR, program: npu_compiler.CompiledProgram, executor: Executor, weights: Weights, threads: int = 0
    ) -> None:
        self.program, self.executor, self.weights = program, executor, weights
        self._threads = threads
        self._describe(ir)
        # Without state, threads need no common session and do not wait for each other.
        self._session = executor.session() if any(spec.state for spec in executor.program.inputs) else None
        self._lock = threading.Lock()
        runner = executor if self._session is None else self._session
        self._call = TensorCall(runner, self._names, self._result_names, Tensor)

    def _describe(self, ir: IR) -> None:
        self.ir = ir
        self._binder = InputBinder(ir, strict=True)
        self._names = [t.name for t in ir.graph_inputs]
        self._result_names = [t.name for t in ir.graph_outputs]
        structure = ir.output_structure
        if structure is None and len(self._result_names) == 1:
            structure = {"tensor": 0}
        self._structure = structure

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Plain tensors on the host that fit are run at once; all else is checked first, in words.
        results = None
        if not kwargs:
            results = self._run_plain(args)
        elif not args and len(kwargs) == len(self._names):
            results = self._run_plain(tuple(map(kwargs.get, self._names)))
        if results is None:
            results = self._run(self._bind(args, kwargs))
        return results if self._structure is None else rebuild(self._structure, results)

    def _run_plain(self, tensors: tuple[Any, ...]) -> tuple[Tensor, ...] | None:
        if self._session is None:
            return self._call.run(tensors, self.weights)
        with self._lock:
            return self._call.run(tensors, self.weights)

    def _run(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        results = self._run_plain(tensors)  # of nested arguments
        if results is not None:
            return results
        inputs = dict(zip(self._names, tensors, strict=True))
        if self._session is None:
            outputs = self.executor.run(inputs, self.weights)
        else:
            with self._lock:
                outputs = self._session.run(inputs, self.weights)
        buffers = [outputs[name] for name in self._result_names]
        if not any(tensor.is_cuda for tensor in tensors):
            buffers = fetch(buffers)
        return tuple(from_dlpack(buffer) for buffer in buffers)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, ...]:
        return tuple(self._binder.bind(args, kwargs))

    def profile(self, *args: Any, **kwargs: Any) -> Profiler:
        """Profile one run; print the result with ``.print_summary()``."""
        profiler = Profiler(self.executor)
        profiler.run(dict(zip(self._names, self._bind(args, kwargs), strict=True)), self.weights)
        return profiler

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one file with the program, the weights and the signature, for ``npu.load`` on any device.

        Buffers that the module writes are saved with their values at the time of compilation. If saving fails, an
        existing file is left unchanged.
        """
        self._model().save(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickled, (self._model().to_bytes(), self.executor.device.kind, self._threads)

    def _model(self) -> Model:
        return Model(
            make_signature(self.ir),
            self.program.to_bytes,
            self.weights,
            lambda: serialize_ir(self.ir).encode(),
            self.program.model_name,
        )

    def reset(self) -> None:
        if self._session is not None:
            self._session.reset()

    def __repr__(self) -> str:
        return f"CompiledModule({self.program!r}, {self.executor!r})"
