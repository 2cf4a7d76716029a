"""Modules compiled for a device."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Any

import npu_compiler
import torch
from npu_base.errors import InternalError, InvalidValueError
from npu_runtime import Device, Executor, Profiler, Weights, load_weights
from npu_runtime._core import TensorCall, fetch
from torch import Tensor, nn
from torch.utils.dlpack import from_dlpack
from torch_ir import IR, extract_ir, serialize_ir
from torch_ir.inputs import InputBinder
from torch_ir.structure import rebuild

from npu.saving.loaded import unpickled
from npu.saving.model import Model
from npu.saving.signature import make_signature

__all__ = ["CompiledModule", "compile"]


class CompiledModule:
    """A callable with the arguments and results of the module's ``forward``, in plain tuples, lists and dicts.

    It has the module's weights at the time of compilation. Results are on the GPU of CUDA inputs, else on the CPU.
    Buffers that the module writes are kept in a session of this object; ``reset()`` restores their values of that time.
    """

    def __init__(
        self, ir: IR, program: npu_compiler.CompiledProgram, executor: Executor, weights: Weights, threads: int = 0
    ) -> None:
        self.ir, self.program, self.executor, self.weights = ir, program, executor, weights
        self._threads = threads
        self._binder = InputBinder(ir, strict=True)
        # Without state, threads need no common session and do not wait for each other.
        self._session = executor.session() if any(spec.state for spec in executor.program.inputs) else None
        self._lock = threading.Lock()
        self._names = [t.name for t in ir.graph_inputs]
        self._result_names = [t.name for t in ir.graph_outputs]
        runner = executor if self._session is None else self._session
        self._call = TensorCall(runner, self._names, self._result_names, Tensor)
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


def _executor(program: npu_compiler.CompiledProgram, device: Device, threads: int) -> Executor:
    try:
        return Executor(program, device, threads=threads)
    except InvalidValueError as error:
        if not str(error).startswith("[program]"):
            raise
        raise InternalError(
            f"{error}; the compiler has just produced this program, so this is a bug: please report it"
        ) from error


def _device_of(module: nn.Module) -> str | None:
    """The device that holds the module's memory, if it is one of ours: "cuda:1"."""
    first = next(iter((*module.parameters(), *module.buffers())), None)
    return str(first.device) if first is not None and first.is_cuda else None


def compile(
    module: nn.Module,
    example_inputs: Any,
    example_kwargs: dict[str, Any] | None = None,
    *,
    device: Device | str | None = None,
    threads: int = 0,
    compute_dtype: str | torch.dtype | None = None,
    disable: str | Iterable[str] = (),
    exact: bool = False,
) -> CompiledModule:
    """Extract and compile ``module``, and plan it for ``device`` (by default the GPU that a module in CUDA memory is
    on, else the best one available).

    ``example_inputs`` is a tensor, a tuple of positional arguments or a dict of keyword arguments; they fix shapes and
    dtypes. The results are those of the module's code as written: if eager PyTorch would run a fused kernel instead
    (``nn.TransformerEncoder`` with a padding mask), padded rows contain computed values, not zeros. ``compute_dtype``
    runs a float32 model in half precision. ``disable`` names compiler passes to skip. ``exact`` rounds after every op,
    as eager PyTorch does.
    """
    ir = extract_ir(module, example_inputs, example_kwargs)
    dtype = str(compute_dtype).removeprefix("torch.") if compute_dtype is not None else None
    program = npu_compiler.compile(ir, compute_dtype=dtype, disable=disable, exact=exact)
    target = device if isinstance(device, Device) else Device(device or _device_of(module))
    executor = _executor(program, target, threads)
    read = {spec.name for spec in program.weight_specs} | {s.name for s in executor.program.inputs if s.state}
    state = {**dict(module.named_buffers()), **module.state_dict()}
    tensors = {name: tensor for name, tensor in state.items() if name in read}
    on_meta = [name for name, tensor in tensors.items() if tensor.is_meta]
    if on_meta:
        raise InvalidValueError(
            f"[npu] the module has no weights; got {len(on_meta)} tensors on the meta device, '{on_meta[0]}' first; "
            f"expected a module with values; try torch_ir.extract_ir, npu_compiler.compile and npu_runtime.load_weights"
        )
    weights = load_weights({name: tensor.detach() for name, tensor in tensors.items()}, program, target)
    executor.prepare(weights)
    return CompiledModule(ir, program, executor, weights, threads)
