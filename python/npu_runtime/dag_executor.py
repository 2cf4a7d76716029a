"""Partitioned models: programs on the device, PyTorch on the host for the rest."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from npu_base.argument_types import AnyTensor

from npu_runtime._core import Device, Executor, Graph, NPUBuffer, Weights
from npu_runtime.backend import Backend
from npu_runtime.dag_inputs import check_arguments, check_donations, check_inputs, donated_names
from npu_runtime.dag_state import StateTensor, find_state, updated_in_place, updated_values
from npu_runtime.errors import InvalidValueError, format_error
from npu_runtime.host import NOT_ON_DEVICES, Copies, HostPart, as_numpy, check_tensor, decode_constants
from npu_runtime.ir_checks import check_ir
from npu_runtime.outputs import outputs_type
from npu_runtime.shared_weights import SharedWeights
from npu_runtime.weight_loader import load_weights, resolve_names

if TYPE_CHECKING:
    import numpy.typing as npt
    from npu_compiler import Partition, PartitionPlan

__all__ = ["DAGExecutor"]


class DAGExecutor:
    """Runs a ``PartitionPlan``. Only tensors that cross from one part to another are moved.

    Buffers that the model writes are kept from one ``execute`` to the next. So are caches (inputs whose updated value
    the model returns), if they are omitted. ``reset()`` sets buffers to their loaded values and caches to zero.
    ``copied`` maps tensors to the bytes that the last ``execute`` copied for them.
    """

    def __init__(
        self, plan: PartitionPlan, backend: Backend, compile_fn: Callable[[dict[str, Any]], Any] | None = None
    ) -> None:
        import npu_compiler

        check_arguments(plan, backend, compile_fn)
        compile_fn = compile_fn or npu_compiler.compile
        self.plan, self.backend = plan, backend
        self.npu_programs: dict[int, Any] = {}
        self.copied: dict[str, int] = {}
        self.executors: dict[int, Any] = {}
        self._loaded_weights: dict[int, Any] = {}
        self._part_irs: dict[int, dict[str, Any]] = {}
        self.host_parts: dict[int, HostPart] = {}
        self.parts: list[Partition] = [step for step in plan.steps if isinstance(step, npu_compiler.Partition)]
        check_ir(plan.original_ir, self.parts)
        self._loaded = False
        self._lock = threading.Lock()  # guards _state
        self._state: dict[str, Any] = {}
        self._initial: dict[str, Any] = {}
        self._copies = Copies()
        whole = plan.original_ir
        self._mapping: dict[str, str] = whole.get("weight_name_mapping") or {}
        mutations = whole.get("mutations") or []
        self._written = {m["target"] for m in mutations if m["kind"] == "buffer"}
        self._output_names = [t["name"] for t in whole["graph_outputs"]]
        leaving = {*self._output_names, *(m["value"]["name"] for m in mutations)}
        for part in self.parts:
            self._add(part, compile_fn, npu_compiler.partition_ir(plan, part), leaving)
        in_place = updated_in_place(self.executors, self.host_parts)
        self._sources = {**in_place, **updated_values(whole)}
        self._state_tensors = find_state(whole, self._sources, in_place)
        self._graph = self._make_graph()
        self._outputs_type, self._updated_inputs = self._name_outputs()

    def _add(
        self, part: Any, compile_fn: Callable[[dict[str, Any]], Any], ir: dict[str, Any], leaving: set[str]
    ) -> None:
        number = part.partition_id
        ir = self._part_irs[number] = self._with_state(ir, part)
        if part.target == "npu":
            self.npu_programs[number] = compile_fn(ir)
            self.executors[number] = self.backend.create_executor(self.npu_programs[number])
        else:
            self.host_parts[number] = HostPart(ir, leaving, in_place=True)
            self.host_parts[number].copies = self._copies

    def _name_outputs(self) -> tuple[type[dict[str, Any]], dict[str, str]]:
        """Further names of outputs. An input that the model writes is also an output, under its own name."""
        whole = self.plan.original_ir
        named = zip(whole.get("output_names") or [], self._output_names, strict=False)
        further = {alias: name for alias, name in named if alias}
        updated: dict[str, str] = {}
        for mutation in whole.get("mutations") or []:
            if mutation["kind"] != "input":
                continue
            name, result, n = mutation["target"], mutation["value"]["name"], 1
            if result in self._output_names:
                further.setdefault(name, result)
                continue
            while name in self._output_names or name in updated:
                name, n = f"{mutation['target']}.{n}", n + 1
            updated[name] = result
        return outputs_type(further), updated

    def _make_graph(self) -> Graph:
        """The core's graph of the parts. It runs programs itself and calls back for everything else."""
        ir = self.plan.original_ir
        produced = [name for part in self.parts for name in part.output_names]
        names = dict.fromkeys([*(t["name"] for t in ir["graph_inputs"]), *self._mapping])
        names |= dict.fromkeys([name for part in self.parts for name in part.input_names] + produced)
        wanted = {*self._output_names, *(m["value"]["name"] for m in ir.get("mutations") or [])}
        graph = Graph(list(names), sorted(wanted & set(produced)))
        device = self.backend.device if isinstance(self.backend.device, Device) else None
        for part in self.parts:
            number = part.partition_id
            if part.target != "npu":
                host = self.host_parts[number]
                graph.add_host(host.call, host.input_names, host.output_names, host.updates, device)
            elif isinstance(self.executors[number], Executor):
                graph.add_program(self.executors[number])
            else:
                inputs = self.input_names(part)
                graph.add_host(self._other_executor(number, inputs, part.output_names), inputs, part.output_names)
        return graph

    def input_names(self, part: Partition) -> list[str]:
        """What a part on the device reads as inputs rather than as weights, in order."""
        return [name for name in part.input_names if name in self._inputs_of(part)]

    def weights_of(self, part: Partition) -> Any:
        return self._loaded_weights.get(part.partition_id)

    def values_before(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What parts may read before any of them has run, by name: inputs, and copies of the state."""
        self._check_inputs(inputs)
        self._check_loaded()
        values: dict[str, Any] = {n: self._initial[f] for n, f in self._mapping.items() if f in self._initial}
        with self._lock:
            for tensor in self._state_tensors:
                if tensor.name not in inputs or not tensor.is_input:
                    values |= dict.fromkeys(tensor.graph_names, as_numpy(self._current_value(tensor)).copy())
        return {**values, **inputs}

    def _inputs_of(self, part: Any) -> set[str]:
        """Names of the tensors that a part reads as inputs rather than as weights."""
        return {t["name"] for t in self._part_irs[part.partition_id]["graph_inputs"]}

    def _other_executor(self, number: int, inputs: list[str], outputs: list[str]) -> Callable[[list[Any]], list[Any]]:
        """Calls the executor of a backend that is not the core's own."""
        executor, owner = (
            self.executors[number],
            weakref.ref(self),
        )  # we own the graph, so a strong one would be a cycle

        def run(values: list[Any]) -> list[Any]:
            dag = owner()
            weights = dag._loaded_weights.get(number) if dag is not None else None
            results = executor.run(dict(zip(inputs, values, strict=True)), weights)
            return [results[name] for name in outputs]

        return run

    def _with_state(self, ir: dict[str, Any], part: Any) -> dict[str, Any]:
        """The part's IR, with buffers that the model writes as inputs instead of weights."""
        state = {n: self._mapping[n] for n in part.input_names if self._mapping.get(n) in self._written}
        metas = {w["name"]: w for w in self.plan.original_ir["weights"]}
        return {
            **ir,
            "graph_inputs": [*ir["graph_inputs"], *({**metas[fqn], "name": n} for n, fqn in state.items())],
            "weights": [w for w in ir["weights"] if w["name"] not in state.values()],
            "weight_name_mapping": {k: v for k, v in ir["weight_name_mapping"].items() if k not in state},
        }

    def load_weights(self, weights: Mapping[str, Any]) -> None:
        """Load arrays by state-dict name, on the device and on the host. Replaces all weights loaded before, and resets
        the state. They are copied, unless they are ``SharedWeights``."""
        if not isinstance(weights, Mapping | Weights):
            got, expected = type(weights).__name__, "a dict of names to tensors"
            action = "model.state_dict()" if hasattr(weights, "state_dict") else None
            what = "weights must be a mapping"
            raise InvalidValueError(format_error("dag", what, got=got, expected=expected, action=action))
        sources = resolve_names(self._names_read(), weights)
        chosen = {name: weights[source] for name, source in sources.items()}
        for meta in self.plan.original_ir["weights"]:
            if meta["name"] in chosen:
                check_tensor("weight", meta, chosen[meta["name"]])
        device_weights: dict[int, Any] = {}
        host_weights: dict[int, Any] = {}
        for part in self.parts:
            if part.target == "npu":
                program = self.npu_programs[part.partition_id]
                own: Any = {spec.name: chosen[spec.name] for spec in program.weight_specs if spec.name in chosen}
                if isinstance(weights, SharedWeights):
                    own = weights.on_device
                device_weights[part.partition_id] = load_weights(own, program, self.backend.device)
            else:
                host_weights[part.partition_id] = self.host_parts[part.partition_id].own_weights(chosen)
        for number, own in host_weights.items():  # only once all weights were accepted
            self.host_parts[number].use(own)
        constants = decode_constants(self.plan.original_ir)
        initial = {**constants, **chosen}
        self._loaded_weights = device_weights
        # Copies, so that the caller may modify the tensors.
        kept = [*self._written, *(self._mapping[n] for n in self._weights_returned())]
        self._initial = {fqn: as_numpy(initial[fqn]).copy() for fqn in kept if fqn in initial}
        self._loaded = True
        self.reset()

    def _replace_weights(self, weights: Mapping[str, Any]) -> None:
        """Load weights but keep the state, so that a loop may pass its weights at each step. Only buffers whose initial
        value has changed start again."""
        initial, state = self._initial, self._state
        self.load_weights(weights)
        for tensor in self._state_tensors:
            same = tensor.is_input or _same_bits(initial.get(tensor.name), self._initial.get(tensor.name))
            if tensor.name in state and same:
                self._state[tensor.name] = state[tensor.name]

    def reset(self) -> None:
        """Set the model's buffers to their loaded values and caches to zero."""
        self._state = {}

    def state(self, name: str) -> Any:
        """The current value of a cache, by the name of its input, or of a buffer that the model writes.

        It is a read-only NPUBuffer, which shows later updates in place, or an array if no device has the dtype.
        None before the first run.
        """
        value = self._state.get(self._state_tensor(name).name)
        if value is None or isinstance(value, NPUBuffer):
            return value.read_only() if value is not None else None
        array = as_numpy(value).copy()
        return array if str(array.dtype) in NOT_ON_DEVICES else self.backend.allocate_buffer(array).read_only()

    def set_state(self, name: str, value: AnyTensor) -> None:
        """Copy ``value`` into the state for the next run."""
        tensor = self._state_tensor(name)
        check_tensor("state", {**self._meta(tensor), "name": name}, value)
        with self._lock:
            self._state[name] = self._writable_copy(as_numpy(value), tensor)

    def _state_tensor(self, name: str) -> StateTensor:
        match = next((tensor for tensor in self._state_tensors if tensor.name == name), None)
        if match is None:
            known = (
                ", ".join(repr(tensor.name) for tensor in self._state_tensors)
                or "no name, because this model has no state"
            )
            what = "the model has no state of this name"
            raise InvalidValueError(format_error("dag", what, got=repr(name), expected=known))
        return match

    def _meta(self, tensor: StateTensor) -> dict[str, Any]:
        ir = self.plan.original_ir
        metas = ir["graph_inputs"] if tensor.is_input else ir["weights"]
        return next(meta for meta in metas if meta["name"] == tensor.name)

    def _writable_copy(self, value: npt.NDArray[Any], tensor: StateTensor) -> Any:
        """A copy that runs may write, in device memory if they write it in place."""
        return self.backend.allocate_buffer(value) if tensor.in_place else value.copy()

    def _current_value(self, tensor: StateTensor) -> Any:
        import numpy as np

        if tensor.name not in self._state:
            meta = self._meta(tensor)
            if not tensor.is_input:
                self._state[tensor.name] = self._writable_copy(self._initial[tensor.name], tensor)
            elif meta["dtype"] in NOT_ON_DEVICES:
                self._state[tensor.name] = np.zeros(meta["shape"], meta["dtype"])
            else:
                self._state[tensor.name] = self.backend.allocate_zeros(tuple(meta["shape"]), meta["dtype"])
        return self._state[tensor.name]

    def _weights_returned(self) -> list[str]:
        return [t["name"] for t in self.plan.original_ir["graph_outputs"] if t["name"] in self._mapping]

    def weights_read(self) -> set[str]:
        """State-dict names of the weights that runs read, and of buffers that they write."""
        return set(self._names_read())

    def loaded_weights(self) -> dict[str, Any]:
        """What ``weights_read`` names, as it was loaded: buffers, tensors of the host, or arrays."""
        tensors = dict(self._initial)
        for weights in self._loaded_weights.values():
            tensors |= dict(weights.items())
        for host in self.host_parts.values():
            tensors |= host.weights
        return {name: tensors[name] for name in self._names_read()}

    def _names_read(self) -> dict[str, list[str]]:
        """State-dict names of the weights that runs read, each with the names tied to it."""
        ir = self.plan.original_ir
        known = {w["name"] for w in ir["weights"]} - set(ir.get("constants") or {})
        inputs = {t["name"] for t in ir["graph_inputs"]}
        used = {n for part in self.parts for n in self._read_by(part)} | set(self._weights_returned())
        read = ({self._mapping.get(n, n) for n in used - inputs} | self._written) & known
        ties: dict[str, str] = ir.get("ties") or {}
        return {name: [tie for tie, owner in ties.items() if owner == name] for name in sorted(read)}

    def _read_by(self, part: Any) -> Iterable[str]:
        """A program does not read the weights of results that nobody reads."""
        if part.target != "npu":
            return part.input_names
        program = self.npu_programs[part.partition_id]
        return [spec.name for spec in program.weight_specs]

    def execute(
        self, inputs: Mapping[str, Any], weights: Mapping[str, Any] | None = None, *, donate: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Run on graph inputs by name (NumPy, torch or NPUBuffer); returns NumPy arrays by graph output name.

        As with ``Executor.run``, a single input may have any name, outputs have further names, and NPUBuffers named in
        ``donate`` give their memory to the outputs that update them. An output that updates an NPUBuffer is an
        NPUBuffer too, ready for the next run. An output that updates a cache kept here is a read-only NPUBuffer, which
        shows later updates too.
        """
        if not isinstance(inputs, Mapping):
            what, got = "inputs must be a mapping", type(inputs).__name__
            raise InvalidValueError(format_error("dag", what, got=got, expected="a dict of names to tensors"))
        names = [t["name"] for t in self.plan.original_ir["graph_inputs"]]
        if len(names) == 1 and len(inputs) == 1:
            donate = names if donated_names(donate) == set(inputs) else donate
            inputs = dict(zip(names, inputs.values(), strict=True))
        self._check_inputs(inputs)
        donated = check_donations(inputs, donate, self._output_names)
        if weights is not None:
            self._replace_weights(weights)
        self._check_loaded()
        kept = [tensor for tensor in self._state_tensors if tensor.name not in inputs or not tensor.is_input]
        if not kept:
            return self._run(inputs, donated, kept)
        with self._lock:
            return self._run(inputs, donated, kept)

    def _run(self, inputs: Mapping[str, Any], donated: set[str], kept: list[StateTensor]) -> dict[str, Any]:
        values: dict[str, Any] = {n: self._initial[f] for n, f in self._mapping.items() if f in self._initial}
        for tensor in kept:
            value = self._current_value(tensor)
            values |= dict.fromkeys(tensor.graph_names, value)
            if tensor.in_place and isinstance(value, NPUBuffer):
                donated = {*donated, tensor.graph_names[0]}
        values |= inputs
        weights = [self._loaded_weights.get(part.partition_id) for part in self.parts]
        counts: dict[str, int] = {}
        self._copies.by_name = {}
        results = self._graph.run(values, weights, donated, counts)
        for name, size in counts.items():
            self._copies.add(name, size)
        for tensor in kept:
            if tensor.is_input and tensor.result in results:
                results[tensor.result] = self._as_buffer(tensor.result, results[tensor.result])
        outputs = self._outputs_type()
        by_result = {tensor.result: tensor for tensor in kept}
        for name, result in [*((n, n) for n in self._output_names), *self._updated_inputs.items()]:
            outputs[name] = self._output(result, values, results, by_result.get(result))
        self._keep(kept, values, results)
        self.copied = self._copies.by_name
        return outputs

    def _output(
        self, name: str, values: Mapping[str, Any], results: Mapping[str, Any], tensor: StateTensor | None
    ) -> Any:
        """The output for the caller. It shares no memory with later runs, unless it is a cache updated in place."""
        value = results.get(name)
        if value is None:
            return self._copy(name, values[name])  # an input or a weight, returned unchanged
        if tensor is not None and not tensor.is_input:
            return self._copy(name, value)
        if tensor is not None and isinstance(value, NPUBuffer):
            return value.read_only()
        if tensor is None and isinstance(values.get(self._sources.get(name, "")), NPUBuffer):
            return self._as_buffer(name, value)
        array = as_numpy(value)
        if hasattr(value, "is_contiguous") and not value.is_contiguous():
            self._copies.add(name, array.nbytes)
        return array

    def _as_buffer(self, name: str, value: AnyTensor) -> Any:
        """A result of the host, in device memory."""
        array = as_numpy(value)
        if isinstance(value, NPUBuffer) or str(array.dtype) in NOT_ON_DEVICES:
            return value
        self._copies.add(name, array.nbytes)
        return self.backend.allocate_buffer(array)

    def _copy(self, name: str, value: AnyTensor) -> npt.NDArray[Any]:
        array = as_numpy(value).copy()
        self._copies.add(name, array.nbytes)
        return array

    def _keep(self, kept: list[StateTensor], values: Mapping[str, Any], results: Mapping[str, Any]) -> None:
        taken: set[str] = set()
        for tensor in kept:
            if tensor.result in results and tensor.result not in taken:
                self._state[tensor.name] = results[tensor.result]
            else:  # an input, a weight, or a result that is already the value of another state tensor
                self._state[tensor.name] = self._copy(
                    tensor.result, results.get(tensor.result, values.get(tensor.result))
                )
            taken.add(tensor.result)

    def _check_inputs(self, inputs: Mapping[str, Any]) -> None:
        read = {name for part in self.parts for name in part.input_names} | set(self._output_names)
        check_inputs(
            self.plan.original_ir, read, {tensor.name for tensor in self._state_tensors if tensor.is_input}, inputs
        )

    def _check_loaded(self) -> None:
        needed = self._returns_or_keeps() or any(self._needs_weights(p) for p in self.parts)
        if not self._loaded and self.plan.original_ir.get("weights") and needed:
            raise InvalidValueError(
                format_error("dag", "weights are not loaded", action="load_weights(...) or execute(..., weights=...)")
            )

    def _needs_weights(self, part: Any) -> bool:
        if part.target == "npu":
            return bool(self.npu_programs[part.partition_id].weight_specs)
        return bool(self.host_parts[part.partition_id].ir["weights"])

    def _returns_or_keeps(self) -> bool:
        return bool(self._written or self._weights_returned())


def _same_bits(a: npt.NDArray[Any] | None, b: npt.NDArray[Any] | None) -> bool:
    """NaN is equal to itself."""
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
