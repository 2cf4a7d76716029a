"""A functional graph of ATen calls, compiled and run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import npu_compiler
import torch
from npu_base.errors import InvalidValueError, NPUError
from npu_compiler import CompileError, InternalCompileError
from npu_runtime import DAGExecutor, Device, Executor, Weights, load_weights
from npu_runtime._core import fetch
from npu_runtime.backend import backend_of
from npu_runtime.host import numpy_to_torch
from torch import Tensor, fx
from torch.utils.dlpack import from_dlpack
from torch_ir.errors import ConversionError
from torch_ir.traced import convert_traced

from npu.dynamo.effects import has_effects_alone, plain_effects
from npu.dynamo.notices import parts_notice, whole_graph_on_host
from npu.dynamo.options import Options
from npu.dynamo.parameters import Parameters
from npu.dynamo.results import Results
from npu.dynamo.tidying import tidy
from npu.host_parts import strategy_of
from npu.saving.parts import last_node

__all__ = ["GraphProgram"]


class GraphProgram:
    """Called by AOTAutograd's wrapper, or directly where the wrapper has nothing to do."""

    _boxed_call = True

    def __init__(self, graph: fx.GraphModule, parameters: list[int], options: Options) -> None:
        tidy(graph.graph)
        graph.graph.eliminate_dead_code()
        plain_effects(graph.graph)
        self._results = Results(graph)
        self._run = _make_runner(graph, parameters, options, self._results)
        self.direct = self._run if self._results.are_computed else self.__call__
        """For callers that keep their arguments."""

    def __call__(self, args: Sequence[Any]) -> list[Any]:
        outputs = self._results.collect(args, self._run(args))
        if isinstance(args, list):
            args.clear()
        return outputs


def _make_runner(graph: fx.GraphModule, parameters: list[int], options: Options, results: Results) -> Any:
    if not results.count and not has_effects_alone(graph.graph):
        return _nothing
    arguments = graph.graph.find_nodes(op="placeholder")
    weights = {i: arguments[i].name for i in parameters if arguments[i].users}
    inputs = {i: node.name for i, node in enumerate(arguments) if node.users and i not in weights}
    for node in arguments:
        if not node.users:
            graph.graph.erase_node(node)
    graph.recompile()
    uncounted = _statistics(graph.graph)
    kept = fx.GraphModule(graph, copy.deepcopy(graph.graph))
    if results.without_owner:
        names = ", ".join(f"'{node.name}'" for node in results.without_owner)
        whole_graph_on_host(options, f"results share memory with gaps between its elements ({names})")
        return _WholeHost(kept, sorted({**inputs, **weights}), as_they_are=True)
    try:
        _check_dtypes(graph)
        ir = convert_traced(graph, {name: name for name in weights.values()}, "graph")
    except ConversionError as error:
        whole_graph_on_host(options, str(error))
        return _WholeHost(kept, sorted({**inputs, **weights}))
    device = _device(options, graph)
    try:
        program = npu_compiler.compile(ir)
    except InternalCompileError:
        raise
    except CompileError:
        return _Partitioned(ir.to_dict(), inputs, weights, device, options, uncounted)
    if options.explain:
        print(f"{npu_compiler.partition(ir.to_dict()).explain()}")
    return _Whole(program, inputs, weights, device, options, results, uncounted)


def _statistics(graph: fx.Graph) -> set[str]:
    """The running statistics of batch norms. Training in eager mode writes them, and PyTorch does not count it."""
    norms = (node for node in graph.nodes if node.op == "call_function" and "batch_norm" in str(node.target))
    return {arg.name for node in norms for arg in node.args[3:5] if isinstance(arg, fx.Node)}


def _check_dtypes(graph: fx.GraphModule) -> None:
    """Parts on the host exchange NumPy arrays."""
    for node in graph.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.dtype == torch.complex32:
            raise ConversionError(f"NumPy has no complex32, which is the dtype of '{node.name}'")


def _nothing(_args: Sequence[Any]) -> list[Tensor]:
    return []


class _Whole:
    """All of the graph on the device."""

    def __init__(
        self,
        program: Any,
        inputs: dict[int, str],
        weights: dict[int, str],
        device: Device,
        options: Options,
        results: Results,
        uncounted: set[str],
    ) -> None:
        self._executor = Executor(program, device, threads=options.threads)
        self._run = self._executor.run
        self._inputs = [(name, i) for i, name in inputs.items()]
        self._program = program
        self._device = device
        self._devices = results.devices
        self._are_here = device.kind == "cpu" and all(d.type == "cpu" for d in results.devices)
        self._order = [t.name for t in self._executor.program.outputs]
        self._parameters: Parameters[Weights] | None = None
        if weights:
            self._parameters = Parameters(list(weights), list(weights.values()), self._prepare, self._update, uncounted)

    def _prepare(self, tensors: dict[str, Tensor]) -> Weights:
        weights = load_weights(tensors, self._program, self._device)
        self._executor.prepare(weights)
        return weights

    def _update(self, weights: Weights, changed: dict[str, Tensor], _all: dict[str, Tensor]) -> None:
        for name, tensor in changed.items():
            weights[name] = tensor
        self._executor.prepare(weights)

    def __call__(self, args: Sequence[Any]) -> list[Tensor]:
        parameters = self._parameters
        weights = None if parameters is None else parameters.of(args)
        outputs = self._run({name: args[i] for name, i in self._inputs}, weights)
        if self._are_here:
            return [from_dlpack(outputs[name].__dlpack__()) for name in self._order]
        return self._moved([outputs[name] for name in self._order])

    def _moved(self, results: list[Any]) -> list[Tensor]:
        """The results on the devices where PyTorch would have them."""
        if any(device.type == "cpu" for device in self._devices):
            results = fetch(results)
        tensors = zip(map(from_dlpack, results), self._devices, strict=True)
        return [tensor.to(device) for tensor, device in tensors]


class _Partitioned:
    """Parts of the graph on the device, and the rest on the host."""

    def __init__(
        self,
        ir: dict[str, Any],
        inputs: dict[int, str],
        weights: dict[int, str],
        device: Device,
        options: Options,
        uncounted: set[str],
    ) -> None:
        strict = options.fallback == "error"
        self._plan = npu_compiler.partition(ir, strategy=strategy_of(ir), strict=strict)
        if options.explain:
            print(f"{self._plan.explain()}")
        parts_notice(self._plan)
        self._programs: dict[str, Any] = {}
        self._backend = backend_of(device, options.threads)
        self._inputs = [(name, i) for i, name in inputs.items()]
        self._order = [t["name"] for t in ir["graph_outputs"]]
        self._parameters = Parameters(list(weights), list(weights.values()), self._prepare, self._update, uncounted)
        self._parameterless = None if weights else self._prepare({})

    def _compile(self, ir: dict[str, Any]) -> Any:
        """Once for each part, not for each set of parameters."""
        key = last_node(ir["nodes"])
        if key not in self._programs:
            self._programs[key] = npu_compiler.compile(ir)
        return self._programs[key]

    def _prepare(self, tensors: dict[str, Tensor]) -> DAGExecutor:
        executor = DAGExecutor(self._plan, self._backend, compile_fn=self._compile)
        executor.load_weights(tensors)
        return executor

    def _update(self, executor: DAGExecutor, _changed: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
        executor.load_weights(tensors)

    def __call__(self, args: Sequence[Any]) -> list[Tensor]:
        executor = self._parameterless or self._parameters.of(args)
        try:
            outputs = executor.execute({name: args[i] for name, i in self._inputs})
        except InvalidValueError as error:
            raise _pytorchs_own(error) from None
        return [numpy_to_torch(outputs[name]) for name in self._order]


def _pytorchs_own(error: BaseException) -> BaseException:
    """What PyTorch raised in a part on the host. Callers handle its errors, such as LinAlgError."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, NPUError):
        return error
    if hasattr(cause, "add_note"):  # Python 3.11
        cause.add_note(str(error))
    return cause


class _WholeHost:
    """A graph that no IR can hold, run by PyTorch."""

    def __init__(self, graph: fx.GraphModule, positions: list[int], as_they_are: bool = False) -> None:
        self._graph, self._positions, self._as_they_are = graph, positions, as_they_are

    def __call__(self, args: Sequence[Any]) -> list[Tensor]:
        results = self._graph(*(args[i] for i in self._positions))
        return list(results) if self._as_they_are else [t.contiguous() for t in results]


def _device(options: Options, graph: fx.GraphModule) -> Device:
    if isinstance(options.device, Device):
        return options.device
    if options.device is not None:
        return Device(options.device)
    values = (node.meta.get("val") for node in graph.graph.nodes)
    cuda = next((v.device for v in values if isinstance(v, Tensor) and v.is_cuda), None)
    return Device(str(cuda) if cuda is not None else None)
