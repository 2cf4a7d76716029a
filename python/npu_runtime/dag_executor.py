"""Partitioned models: programs on the device, PyTorch on the host for the rest."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from npu_runtime._core import Executor, Graph, NPUBuffer, Weights
from npu_runtime.backend import Backend
from npu_runtime.errors import InvalidValueError, format_error
from npu_runtime.host import HostPart, decode_constants
from npu_runtime.outputs import outputs_type
from npu_runtime.weight_loader import load_weights, resolve_names

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["DAGExecutor"]


class DAGExecutor:
    """Runs a ``PartitionPlan``. Only what crosses from one part to another is moved.

    Buffers that the model writes are kept from one ``execute`` to the next; ``reset()`` takes them back to what was
    loaded.
    """

    def __init__(self, plan: Any, backend: Backend, compile_fn: Callable[[dict[str, Any]], Any] | None = None) -> None:
        import npu_compiler

        compile_fn = compile_fn or npu_compiler.compile
        self.plan, self.backend = plan, backend
        self.npu_programs: dict[int, Any] = {}
        self._executors: dict[int, Any] = {}
        self._loaded_weights: dict[int, Any] = {}
        self._part_irs: dict[int, dict[str, Any]] = {}
        self._host: dict[int, HostPart] = {}
        self._parts = [step for step in plan.steps if hasattr(step, "target")]
        self._loaded = False
        self._lock = threading.Lock()  # of the state
        self._state: dict[str, Any] = {}
        self._initial: dict[str, Any] = {}
        whole = plan.original_ir
        written = [m for m in whole.get("mutations") or [] if m["kind"] == "buffer"]
        self._updates = {m["target"]: m["value"]["name"] for m in written}
        self._mapping: dict[str, str] = whole.get("weight_name_mapping") or {}
        for part in self._parts:
            ir = self._part_irs[part.partition_id] = self._with_state(npu_compiler.partition_ir(plan, part), part)
            if part.target == "npu":
                program = compile_fn(ir)
                self.npu_programs[part.partition_id] = program
                self._executors[part.partition_id] = backend.create_executor(program)
            else:
                self._host[part.partition_id] = HostPart(ir)
        self._graph = self._make_graph()
        self._output_names = [t["name"] for t in whole["graph_outputs"]]
        named = zip(whole.get("output_names") or [], self._output_names, strict=False)
        self._outputs_type = outputs_type({further: name for further, name in named if further})

    def _make_graph(self) -> Graph:
        """The parts in the core, which runs programs itself and calls back for the others."""
        ir = self.plan.original_ir
        made = [name for part in self._parts for name in part.output_names]
        names = dict.fromkeys([*(t["name"] for t in ir["graph_inputs"]), *self._mapping])
        names |= dict.fromkeys([name for part in self._parts for name in part.input_names] + made)
        wanted = {t["name"] for t in ir["graph_outputs"]} | set(self._updates.values())
        graph = Graph(list(names), sorted(wanted & set(made)))
        for part in self._parts:
            number = part.partition_id
            if part.target != "npu":
                host = self._host[number]
                graph.add_host(host.call, host.input_names, host.output_names)
            elif isinstance(self._executors[number], Executor):
                graph.add_program(self._executors[number])
            else:
                inputs = [name for name in part.input_names if name in self._given_to(part)]
                graph.add_host(self._other_executor(number, inputs, part.output_names), inputs, part.output_names)
        return graph

    def _given_to(self, part: Any) -> set[str]:
        """What a part reads as inputs, and not as its weights."""
        return {t["name"] for t in self._part_irs[part.partition_id]["graph_inputs"]}

    def _other_executor(self, number: int, inputs: list[str], outputs: list[str]) -> Callable[[list[Any]], list[Any]]:
        """A backend's own executor, called as the core's is."""
        executor, owner = self._executors[number], weakref.ref(self)  # the graph is ours: no circle

        def run(values: list[Any]) -> list[Any]:
            dag = owner()
            weights = dag._loaded_weights.get(number) if dag is not None else None
            made = executor.run(dict(zip(inputs, values, strict=True)), weights)
            return [made[name] for name in outputs]

        return run

    def _with_state(self, ir: dict[str, Any], part: Any) -> dict[str, Any]:
        """What the model writes is no weight of a part, but one of its inputs."""
        held = {n: self._mapping[n] for n in part.input_names if self._mapping.get(n) in self._updates}
        metas = {w["name"]: w for w in self.plan.original_ir["weights"]}
        return {
            **ir,
            "graph_inputs": [*ir["graph_inputs"], *({**metas[fqn], "name": n} for n, fqn in held.items())],
            "weights": [w for w in ir["weights"] if w["name"] not in held.values()],
            "weight_name_mapping": {k: v for k, v in ir["weight_name_mapping"].items() if k not in held},
        }

    def load_weights(self, weights: Mapping[str, Any]) -> None:
        """State-dict names to arrays. Replaces what was loaded before, on the device and on the host."""
        if not isinstance(weights, Mapping | Weights):
            raise InvalidValueError(
                format_error("dag", "no weights", got=type(weights).__name__, expected="a dict of names to tensors")
            )
        found = resolve_names(self._names_read(), weights)
        chosen = {name: weights[source] for name, source in found.items()}
        used: dict[int, Any] = {}
        on_host: dict[int, Any] = {}
        for part in self._parts:
            if part.target == "npu":
                program = self.npu_programs[part.partition_id]
                own = {spec.name: chosen[spec.name] for spec in program.weight_specs if spec.name in chosen}
                used[part.partition_id] = load_weights(own, program, self.backend.device)
            else:
                on_host[part.partition_id] = self._host[part.partition_id].own_weights(chosen)
        for at, own in on_host.items():  # now that nothing was refused
            self._host[at].use(own)
        constants = decode_constants(self.plan.original_ir)
        initial = {**constants, **chosen}
        self._loaded_weights = used
        # Copies, so that the caller's tensors may change.
        kept = [*self._updates, *(self._mapping[n] for n in self._weights_returned())]
        self._initial = {fqn: _as_numpy(initial[fqn]).copy() for fqn in kept if fqn in initial}
        self._loaded = True
        self.reset()

    def reset(self) -> None:
        """Forget what runs have written into the model's buffers."""
        self._state = {fqn: self._initial[fqn] for fqn in self._updates if fqn in self._initial}

    def _weights_returned(self) -> list[str]:
        return [t["name"] for t in self.plan.original_ir["graph_outputs"] if t["name"] in self._mapping]

    def _names_read(self) -> dict[str, list[str]]:
        """State-dict names of what runs need, and the names each is tied to."""
        ir = self.plan.original_ir
        known = {w["name"] for w in ir["weights"]} - set(ir.get("constants") or {})
        given = {t["name"] for t in ir["graph_inputs"]}
        places = {n for part in self._parts for n in part.input_names} | set(self._weights_returned())
        read = {self._mapping.get(n, n) for n in places - given} & known
        ties: dict[str, str] = ir.get("ties") or {}
        return {name: [tie for tie, owner in ties.items() if owner == name] for name in sorted(read)}

    def execute(
        self, inputs: Mapping[str, Any], weights: Mapping[str, Any] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Graph inputs by name (NumPy, torch or NPUBuffer); returns NumPy arrays by graph output name.

        As with ``Executor.run``, names do not matter where there is one input, and outputs answer to further names.
        """
        if weights is not None:
            self.load_weights(weights)
        names = [t["name"] for t in self.plan.original_ir["graph_inputs"]]
        if len(names) == 1 and isinstance(inputs, Mapping) and len(inputs) == 1:
            inputs = dict(zip(names, inputs.values(), strict=True))
        self._check(inputs)
        if not self._updates:
            return self._run(inputs)
        with self._lock:
            return self._run(inputs)

    def _run(self, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        stored = {**self._initial, **self._state}
        values: dict[str, Any] = {**{n: stored[f] for n, f in self._mapping.items() if f in stored}, **inputs}
        weights = [self._loaded_weights.get(part.partition_id) for part in self._parts]
        values |= self._graph.run(values, weights)
        outputs = self._outputs_type((name, _as_numpy(values[name])) for name in self._output_names)
        # The caller's inputs and outputs are not ours to keep, nor what may be a view of them.
        lent = {*inputs, *outputs}
        state = {}
        for fqn, name in self._updates.items():
            own = isinstance(values[name], NPUBuffer) and name not in lent
            state[fqn] = values[name] if own else _as_numpy(values[name]).copy()
        self._state = state
        return outputs

    def _check(self, inputs: Mapping[str, Any]) -> None:
        ir = self.plan.original_ir
        if not isinstance(inputs, Mapping):
            raise InvalidValueError(
                format_error("dag", "inputs must be a dict of names to tensors", got=type(inputs).__name__)
            )
        if (
            not self._loaded
            and ir.get("weights")
            and (self._returns_or_keeps() or any(self._needs_weights(p) for p in self._parts))
        ):
            raise InvalidValueError(
                format_error("dag", "weights are not loaded", action="load_weights(...) or execute(..., weights=...)")
            )
        known = {t["name"] for t in ir["graph_inputs"]}
        read = {name for part in self._parts for name in part.input_names}
        read |= {t["name"] for t in ir["graph_outputs"]}
        missing, surplus = sorted((known & read) - set(inputs)), sorted(set(inputs) - known)
        if missing or surplus:
            raise InvalidValueError(
                format_error(
                    "dag",
                    "the inputs' names are wrong",
                    got=f"missing {missing}, unknown {surplus}",
                    expected=", ".join(sorted(known)),
                )
            )
        for meta in ir["graph_inputs"]:
            if meta["name"] not in inputs:
                continue
            value = inputs[meta["name"]]
            if not hasattr(value, "shape") or not hasattr(value, "dtype"):
                got, expected = type(value).__name__, "an NPUBuffer, a NumPy array or a tensor"
            else:
                got = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
                expected = f"{meta['dtype']}{list(meta['shape'])}"
            if got != expected:
                raise InvalidValueError(
                    format_error("dag", f"input '{meta['name']}' does not fit", got=got, expected=expected)
                )

    def _needs_weights(self, part: Any) -> bool:
        if part.target == "npu":
            return bool(self.npu_programs[part.partition_id].weight_specs)
        return bool(self._host[part.partition_id].ir["weights"])

    def _returns_or_keeps(self) -> bool:
        return bool(self._updates or self._weights_returned())


def _as_numpy(value: Any) -> npt.NDArray[Any]:
    import numpy as np

    if isinstance(value, NPUBuffer):
        return value.to_numpy()
    if hasattr(value, "detach"):
        from npu_runtime.host import torch_to_numpy

        return torch_to_numpy(value)
    return np.asarray(value)
