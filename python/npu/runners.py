"""What runs a compiled model inside of its callable: a program, here, or parts on the device and on the host."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from npu_base.errors import AbsentError, InvalidValueError, format_error
from npu_runtime import Device, Executor, NPUBuffer, Profiler, Weights, load_weights
from npu_runtime._core import TensorCall, fetch

from npu.saving.signature import Signature
from npu.saving.sizes import SavedSize
from npu.saving.structure import Arguments

__all__ = ["ProgramRunner", "Runner", "uses_torch"]


_ARRAYS = (np.ndarray, NPUBuffer)


class Runner:
    """Takes and returns tensors in the order of the signature."""

    device: Device
    has_state: bool

    def arguments(self, signature: Signature) -> Arguments:
        return Arguments(signature)

    def try_tensors(self, tensors: tuple[Any, ...]) -> Sequence[Any] | None:
        """The cheap way, with torch tensors for results of this kind, or with arrays and buffers for NumPy arrays.
        None, before anything has run, unless these obviously fit."""
        return None

    def run(self, tensors: Sequence[Any], as_torch: bool) -> Sequence[Any]:
        """Results as torch tensors, on the GPU if one of the inputs is, or as NumPy arrays."""
        raise NotImplementedError

    def profile(self, tensors: Sequence[Any], runs: int = 1) -> Any:
        raise NotImplementedError

    def stored(self) -> Any:
        """The weights, by name, as a saved file has them."""
        raise NotImplementedError

    def reset(self) -> None:
        raise NotImplementedError

    def steps(self) -> str:
        """How many steps a run has, in words."""
        raise NotImplementedError

    def on_host(self) -> str:
        """What PyTorch runs, in words."""
        return "nothing"

    @property
    def sizes(self) -> list[dict[str, int]]:
        """Those of open sizes that it has programs for."""
        return []

    def saved_sizes(self) -> list[SavedSize]:
        """What a saved file has for each of them."""
        return []

    def state(self) -> dict[str, Any]:
        """The buffers that the model writes, by name, if a run has written them."""
        raise NotImplementedError

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on with the state of another runner of the model, which is not running."""
        raise NotImplementedError

    def warm_up(self, sizes: Iterable[Any]) -> None:
        what, action = "this model has fixed sizes", "npu.compile(..., dynamic_shapes=...)"
        raise InvalidValueError(format_error("npu", what, action=action))

    def weights_read(self) -> set[str]:
        """The names of the weights that runs read, and of buffers that they write."""
        raise NotImplementedError

    def update(self, weights: Mapping[str, Any]) -> None:
        """Use these, which are checked. Runs in other threads read all old or all new ones. State starts again."""
        raise NotImplementedError

    @property
    def program(self) -> Any:
        return self._without("program")

    @property
    def executor(self) -> Executor:
        return self._without("executor")

    @property
    def weights(self) -> Weights:
        return self._without("weights")

    @property
    def plan(self) -> Any:
        return self._without("plan")

    def _without(self, name: str) -> NoReturn:
        raise AbsentError(f"this model has no {name}, because the device runs all of it")


class ProgramRunner(Runner):
    """A whole model as one program. State is kept in a session of this object."""

    program: Any = None
    executor: Executor = None  # type: ignore[assignment]
    weights: Weights = None  # type: ignore[assignment]

    def __init__(self, executor: Executor, weights: Weights, signature: Signature, program: Any = None) -> None:
        """``program`` is what the user sees of it, by default the core's."""
        self.executor, self.weights, self.program = executor, weights, program or executor.program
        self.device = executor.device
        self._inputs = [entry.name for entry in signature.inputs]
        by_name = {spec.name: spec for spec in executor.program.inputs}
        specs = [by_name[name] for name in self._inputs]
        self._outputs = [entry.name for entry in signature.outputs]
        self.has_state = any(spec.state for spec in executor.program.inputs)
        # Without state, threads need no common session and do not wait for each other.
        self._session = executor.session() if self.has_state else None
        self._lock = threading.Lock()
        self._call: TensorCall | None = None
        self._shapes = [tuple(spec.shape) for spec in specs]
        self._dtypes = [_numpy_dtype(spec.dtype) for spec in specs]
        results = {spec.name: (tuple(spec.shape), _numpy_dtype(spec.dtype)) for spec in executor.program.outputs}
        self._results = [results[name] for name in self._outputs]
        executor.prepare(weights)

    def try_tensors(self, tensors: tuple[Any, ...]) -> Sequence[Any] | None:
        if tensors and type(tensors[0]) in _ARRAYS:
            return self._run_arrays(tensors) if self._fit(tensors) else None
        call = self._call or self._tensor_call()
        if call is None:
            return None
        if self._session is None:
            return call.run(tensors, self.weights)
        with self._lock:
            return call.run(tensors, self.weights)

    def _fit(self, arrays: tuple[Any, ...]) -> bool:
        """Whether they are buffers or NumPy arrays, and of no subclass, with the program's shapes and dtypes."""
        if len(arrays) != len(self._shapes):
            return False
        for array, shape, dtype in zip(arrays, self._shapes, self._dtypes, strict=True):
            if type(array) not in _ARRAYS or array.shape != shape:
                return False
            given = array.dtype
            if given is not dtype and (dtype is None or given != dtype):  # None would equal float64
                return False
        return True

    def _run_arrays(self, tensors: Sequence[Any]) -> list[Any]:
        buffers: list[Any] = fetch(self._buffers(tensors))
        return [
            buffer.to_numpy() if dtype is None else np.ndarray(shape, dtype, buffer)
            for buffer, (shape, dtype) in zip(buffers, self._results, strict=True)
        ]

    def _tensor_call(self) -> TensorCall | None:
        torch = sys.modules.get("torch")
        parameter = getattr(getattr(torch, "nn", None), "Parameter", None)  # None while another thread imports PyTorch
        if torch is not None and parameter is not None:
            runner = self.executor if self._session is None else self._session
            self._call = TensorCall(runner, self._inputs, self._outputs, torch.Tensor, parameter)
        return self._call

    def run(self, tensors: Sequence[Any], as_torch: bool) -> Sequence[Any]:
        if not as_torch:
            return self._run_arrays(tensors)
        buffers = self._buffers(tensors)
        if not any(getattr(tensor, "is_cuda", False) for tensor in tensors):
            buffers = fetch(buffers)
        return tuple(map(sys.modules["torch"].utils.dlpack.from_dlpack, buffers))

    def _buffers(self, tensors: Sequence[Any]) -> list[NPUBuffer]:
        inputs = dict(zip(self._inputs, tensors, strict=True))
        if self._session is None:
            outputs = self.executor.run(inputs, self.weights)
        else:
            with self._lock:
                outputs = self._session.run(inputs, self.weights)
        return [outputs[name] for name in self._outputs]

    def profile(self, tensors: Sequence[Any], runs: int = 1) -> Profiler:
        profiler = Profiler(self.executor)
        for _ in range(runs):
            profiler.run(dict(zip(self._inputs, tensors, strict=True)), self.weights)
        return profiler

    def stored(self) -> Weights:
        return self.weights

    def steps(self) -> str:
        return f"{self.executor.summary.kernels} kernels"

    def weights_read(self) -> set[str]:
        program = self.executor.program
        return {spec.name for spec in program.weights} | {spec.name for spec in program.inputs if spec.state}

    def update(self, weights: Mapping[str, Any]) -> None:
        self.use(load_weights(weights, self.executor.program, self.device))

    def use(self, weights: Weights) -> None:
        self.executor.prepare(weights)
        with self._lock:
            self.weights = weights
            if self._session is not None:
                self._session.reset()

    def reset(self) -> None:
        if self._session is not None:
            self._session.reset()

    def state(self) -> dict[str, Any]:
        session = self._session
        if session is None:
            return {}
        names = [spec.name for spec in self.executor.program.inputs if spec.state]
        return {name: value for name in names if (value := session.state(name)) is not None}

    def set_state(self, state: Mapping[str, Any]) -> None:
        if self._session is not None:
            for name, value in state.items():
                self._session.set_state(name, value)

    def __repr__(self) -> str:
        return repr(self.executor)


def _numpy_dtype(name: str) -> Any:
    """None where NumPy has none of this name, which no array's dtype equals."""
    try:
        return np.dtype(name)
    except TypeError:
        return None


def uses_torch(tensors: Sequence[Any]) -> bool:
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and any(isinstance(one, tensor) for one in tensors)
