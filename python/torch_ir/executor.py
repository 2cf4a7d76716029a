"""Runs IR with PyTorch's own operators."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ._encoding import decode_attr, dtype_to_str
from .errors import ExecutionError, WeightLoadError
from .ir import IR, OpNode
from .plan import Plan
from .structure import rebuild
from .weight_loader import load_weights, mismatches, resolve_weights

Observer = Callable[[OpNode, list[Tensor]], None]


class TensorRegistry:
    """Tensors by name."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def register(self, name: str, tensor: Tensor) -> None:
        self._tensors[name] = tensor

    def get(self, name: str) -> Tensor | None:
        return self._tensors.get(name)

    def has(self, name: str) -> bool:
        return name in self._tensors

    def clear(self) -> None:
        self._tensors.clear()

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        self._tensors[name] = tensor

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"TensorRegistry({len(self._tensors)} tensors)"


class IRExecutor:
    """Executes one IR. Arguments are resolved once; intermediates are freed at their last use.

    A model that writes its buffers keeps that state between runs, in ``state``, as the module itself would; the
    weights given are never written. ``mutations`` holds the written tensors of the last run, inputs included.
    ``strict`` checks all sizes of the inputs; otherwise dimension 0 may differ from the trace where the ops allow.
    """

    def __init__(
        self,
        ir: IR,
        weights: Mapping[str, Tensor] | None = None,
        constants: Mapping[str, Tensor] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        self.ir = ir
        self.strict = strict
        self.constants: dict[str, Tensor] = {**ir.constants, **(constants or {})}
        self.weights: dict[str, Tensor] | None = None
        self.registry = TensorRegistry()
        self.state: dict[str, Tensor] = {}
        self.mutations: dict[str, Tensor] = {}
        self._plan: Plan | None = None
        self._bound: dict[int, Tensor] | None = None
        if weights is not None:
            self.load_weights_from_state_dict(weights)

    def __repr__(self) -> str:
        loaded = "no weights" if self.weights is None else f"{len(self.weights)} weights"
        return f"IRExecutor({self.ir!r}, {loaded})"

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        self.load_weights_from_state_dict(load_weights(path))

    def load_weights_from_state_dict(self, sd: Mapping[str, Tensor]) -> None:
        """Use these weights. All that do not fit are named at once; surplus names are ignored."""
        try:
            resolved = resolve_weights(sd, self.ir)
        except WeightLoadError as e:
            raise ExecutionError(str(e)) from e
        errors = [
            error
            for meta in self.ir.weights
            if meta.name in resolved
            for error in mismatches(resolved[meta.name], meta.name, tuple(meta.shape), meta.dtype)
        ]
        if errors:
            raise ExecutionError("Weights do not fit the IR:\n" + "\n".join(f"  - {e}" for e in errors))
        # Names that the IR's weight list does not have serve hand-written IR.
        extra = {k: v for k, v in sd.items() if k not in resolved and isinstance(v, Tensor)}
        self.weights = {k: v.detach() for k, v in {**extra, **resolved}.items()}
        self._fill_registry()
        self.reset_state()

    def _fill_registry(self) -> None:
        """Weights and constants answer to their state-dict name and to the name that nodes use."""
        self.registry.clear()
        held = {**self.constants, **(self.weights or {})}
        for name, tensor in held.items():
            self.registry.register(name, tensor)
        for placeholder, name in self.ir.weight_name_mapping.items():
            if name in held:
                self.registry.register(placeholder, held[name])

    def reset_state(self) -> None:
        """Forget what earlier runs wrote into buffers."""
        self.state.clear()
        self._bound = None

    def execute(self, inputs: Any) -> tuple[Tensor, ...]:
        """Run on the model's inputs; returns the graph's outputs in order.

        ``inputs`` is what the model takes: a tuple (nested as in extraction, or just its tensors), a single tensor,
        or a dict of keyword arguments or graph input names.
        """
        return self._execute(inputs, None)

    def __call__(self, *inputs: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        return self._execute(inputs, None, kwargs)

    def rebuild_output(self, outputs: Sequence[Tensor]) -> Any:
        """The outputs nested as the model returns them, in plain tuples, lists and dicts."""
        if self.ir.output_structure is None:
            return tuple(outputs)
        return rebuild(self.ir.output_structure, tuple(outputs))

    def _execute(
        self, inputs: Any, observe: Observer | None, kwargs: dict[str, Any] | None = None
    ) -> tuple[Tensor, ...]:
        if self.weights is None:
            raise ExecutionError(
                "Weights not loaded. Call load_weights() or load_weights_from_state_dict() first "
                "({} for a model without weights)"
            )
        tensors = InputBinder(self.ir, self.strict).bind(inputs, kwargs or {})
        plan = self._plan_for(_device_of(tensors, self.weights))
        outputs, written = run_plan(plan, tensors, self._bind_weights(plan), observe)
        self.mutations = written
        self._keep_state(plan, written)
        return tuple(outputs)

    def _plan_for(self, device: torch.device) -> Plan:
        if self._plan is None or self._plan.device != device:
            try:
                self._plan, self._bound = Plan(self.ir, device), None
            except ExecutionError:
                raise
            except Exception as e:
                raise ExecutionError(f"Cannot prepare the graph for execution: {type(e).__name__}: {e}") from e
        return self._plan

    def _bind_weights(self, plan: Plan) -> dict[int, Tensor]:
        if self._bound is None:
            assert self.weights is not None
            bound: dict[int, Tensor] = {}
            for name, slot in plan.weights.items():
                tensor = self.state.get(name, self.weights.get(name, self.constants.get(name)))
                if tensor is None:
                    raise ExecutionError(self._missing(plan, name))
                tensor = tensor.detach().to(plan.device)
                # Some CPU kernels round differently for tensors that could need a gradient, as a module's
                # parameters do even under no_grad.
                bound[slot] = tensor.requires_grad_() if name in plan.parameters else tensor
            self._bound = bound
        return self._bound

    def _missing(self, plan: Plan, name: str) -> str:
        absent = [n for n in plan.weights if n not in (self.weights or {}) and n not in self.constants]
        more = f" {len(absent)} weights are missing: {absent[:8]}." if len(absent) > 1 else ""
        return (
            f"Weight/input '{name}' not found in registry for {plan.first_reader[name]}.{more} Give it in the weights, "
            f"or, when no checkpoint holds it, in constants="
        )

    def _keep_state(self, plan: Plan, written: dict[str, Tensor]) -> None:
        for mutation, _ in plan.mutations:
            if mutation.kind != "input":
                self.state[mutation.target] = written[mutation.target]
                self._bound = None


def run_plan(
    plan: Plan, inputs: Sequence[Tensor], weights: Mapping[int, Tensor], observe: Observer | None = None
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The graph's outputs, and the tensors it wrote by name."""
    slots: list[Any] = [None] * plan.size
    for slot, tensor in zip(plan.inputs, inputs, strict=True):
        slots[slot] = tensor
    for slot, tensor in weights.items():
        slots[slot] = tensor
    with torch.no_grad():
        _run_steps(plan, slots, observe)
    return [slots[s].detach() for s in plan.outputs], {m.target: slots[s] for m, s in plan.mutations}


def _run_steps(plan: Plan, slots: list[Any], observe: Observer | None) -> None:
    for step in plan.steps:
        args = step.args.copy()
        for position, slot in step.holes:
            args[position] = slots[slot]
        for position, many in step.lists:
            args[position] = [None if s is None else slots[s] for s in many]
        try:
            result = step.fn(*args, **step.kwargs)
            outputs = step.outputs
            if len(outputs) == 1 and isinstance(result, Tensor):
                slots[outputs[0]] = result
            elif outputs:
                results = [r for r in result if isinstance(r, Tensor)]
                for slot, tensor in zip(outputs, results, strict=True):
                    slots[slot] = tensor
        except Exception as e:
            raise ExecutionError(_failure(step.node, e)) from e
        if observe is not None:
            observe(step.node, [slots[s] for s in step.outputs])
        for slot in step.dead:
            slots[slot] = None


def _failure(node: OpNode, error: Exception) -> str:
    place = ", ".join(x for x in (node.module_path and f"module {node.module_path}", node.source) if x)
    return f"Failed to execute node '{node.name}' (op: {node.op_type}): {error}" + (f" [{place}]" if place else "")


def _device_of(inputs: Sequence[Tensor], weights: Mapping[str, Tensor]) -> torch.device:
    for tensor in (*inputs, *weights.values()):
        return tensor.device
    return torch.device("cpu")


class InputBinder:
    """Turns what a caller passes into the graph's inputs, and checks them."""

    def __init__(self, ir: IR, strict: bool) -> None:
        self.ir, self.strict = ir, strict

    def bind(self, inputs: Any, kwargs: dict[str, Any]) -> list[Tensor]:
        tensors = self._tensors(inputs, kwargs)
        expected = self.ir.graph_inputs
        if len(tensors) != len(expected):
            names = ", ".join(t.name for t in expected)
            raise ExecutionError(f"Expected {len(expected)} inputs, got {len(tensors)} (the graph takes: {names})")
        for tensor, meta in zip(tensors, expected, strict=True):
            self._check(tensor, meta)
        return tensors

    def _tensors(self, inputs: Any, kwargs: dict[str, Any]) -> list[Tensor]:
        if isinstance(inputs, Mapping):
            inputs, kwargs = (), {**inputs, **kwargs}
        if isinstance(inputs, Tensor):
            inputs = (inputs,)
        if not kwargs and isinstance(inputs, (tuple, list)) and all(isinstance(x, Tensor) for x in inputs):
            return list(inputs)
        named = {t.name for t in self.ir.graph_inputs}
        if not inputs and set(kwargs) == named and all(isinstance(v, Tensor) for v in kwargs.values()):
            return [kwargs[t.name] for t in self.ir.graph_inputs]
        return self._by_structure(tuple(inputs), kwargs)

    def _by_structure(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        expected = self.ir.input_structure
        if expected is not None and kwargs:
            kwargs = self._ordered(kwargs, expected["items"][1].get("keys", []))
        leaves = pytree.tree_leaves((args, kwargs))
        for i, leaf in enumerate(leaves):
            if not isinstance(leaf, (Tensor, bool, int, float, str, type(None))) and not _is_described(leaf):
                raise ExecutionError(f"Input {i}: expected a tensor, got {type(leaf).__name__}")
        if expected is not None:
            traced = list(_leaf_entries(expected))
            if len(traced) == len(leaves):
                self._check_constants(traced, leaves)
        return [x for x in leaves if isinstance(x, Tensor)]

    def _ordered(self, kwargs: dict[str, Any], keys: list[str]) -> dict[str, Any]:
        unknown = [k for k in kwargs if k not in keys]
        missing = [k for k in keys if k not in kwargs]
        if unknown or missing:
            raise ExecutionError(f"Keyword inputs do not match: missing {missing}, unknown {unknown}, expected {keys}")
        return {k: kwargs[k] for k in keys}

    def _check_constants(self, traced: list[dict[str, Any]], leaves: list[Any]) -> None:
        for i, (entry, leaf) in enumerate(zip(traced, leaves, strict=True)):
            if "tensor" in entry or isinstance(leaf, Tensor):
                if ("tensor" in entry) != isinstance(leaf, Tensor):
                    raise ExecutionError(f"Input {i}: got {type(leaf).__name__}, traced with {_describe(entry)}")
                continue
            value = decode_attr(entry["value"], "", "")
            if _is_described(leaf):
                leaf = repr(leaf)
            if type(value) is not type(leaf) or value != leaf:
                raise ExecutionError(
                    f"Input {i} is {leaf!r}, but the graph was traced with {value!r} there; extract again with {leaf!r}"
                )

    def _check(self, tensor: Tensor, meta: Any) -> None:
        got, want = tuple(tensor.shape), tuple(meta.shape)
        free = 0 if self.strict else 1
        if len(got) != len(want) or got[free:] != want[free:]:
            shown = [*(["*"] if free and want else []), *want[free:]]
            raise ExecutionError(
                f"Input '{meta.name}': got shape {list(got)}, expected [{', '.join(map(str, shown))}]"
                + (" (* is free)" if free and want else "")
            )
        if dtype_to_str(tensor.dtype) != meta.dtype:
            raise ExecutionError(
                f"Input '{meta.name}': got dtype {dtype_to_str(tensor.dtype)}, expected {meta.dtype}; convert it with "
                f".to(torch.{meta.dtype})"
            )


def _is_described(leaf: Any) -> bool:
    """A constant of a kind that the trace keeps as text only."""
    return not hasattr(leaf, "__array__") and not isinstance(leaf, (bool, int, float, str, type(None), Tensor))


def _leaf_entries(structure: dict[str, Any]) -> Any:
    if "items" not in structure:
        yield structure
    for child in structure.get("items", ()):
        yield from _leaf_entries(child)


def _describe(entry: dict[str, Any]) -> str:
    return "a tensor" if "tensor" in entry else repr(entry.get("value"))


def execute_ir(
    ir: IR,
    inputs: Any,
    weights: Mapping[str, Tensor] | None = None,
    weights_path: str | os.PathLike[str] | None = None,
    constants: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Run an IR once."""
    if weights is None and weights_path is None:
        raise ValueError("Either weights or weights_path must be provided")
    executor = IRExecutor(ir, weights, constants)
    if weights is None and weights_path is not None:
        executor.load_weights(weights_path)
    return executor.execute(inputs)
