"""Resolves an IR's nodes into steps on numbered slots, and runs them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ._encoding import dtype_from_str
from .binding import GETITEM, Step, bind_getitem, bind_operator
from .errors import ExecutionError
from .ir import IR, OpNode, TensorMeta, check_fixed
from .ops.registry import get_execution_fn

Observer = Callable[[OpNode, list[Tensor]], None]


class Plan:
    """Steps in order. Each input, weight and result has a slot."""

    def __init__(self, ir: IR, device: torch.device) -> None:
        check_fixed(ir, "run")
        self.device = device
        self.slots: dict[tuple[str, str, int], int] = {}
        self.inputs = [self._slot("input", t.name) for t in ir.graph_inputs]
        self.weights: dict[str, int] = {}
        self.first_reader: dict[str, str] = {}
        self._input_names = {t.name for t in ir.graph_inputs}
        self._node_names = {n.name for n in ir.nodes}
        self._results_by_name: dict[str, int] = {}
        self._mapping = ir.weight_name_mapping
        floating = {t.name for t in ir.weights if dtype_from_str(t.dtype).is_floating_point}
        self.parameters = {fqn for p, fqn in self._mapping.items() if p.startswith("p_") and fqn in floating}
        self._subplans = {name: Plan(body, device) for name, body in ir.subgraphs.items()}
        self.steps = [self._step(node) for node in ir.nodes]
        self.outputs = [self._source(t, "the graph's output") for t in ir.graph_outputs]
        self.mutations = [(m, self._source(m.value, f"the mutation of '{m.target}'")) for m in ir.mutations]
        self.size = len(self.slots)
        self._mark_dead()

    def _slot(self, kind: str, name: str, index: int = 0) -> int:
        return self.slots.setdefault((kind, name, index), len(self.slots))

    def _source(self, t: TensorMeta, reader: str) -> int:
        if t.producer_node is not None:
            if t.producer_node in self._node_names:
                return self._slot("result", t.producer_node, t.producer_output_idx)
            return self._slot("input", t.producer_node)
        if t.name in self._results_by_name:
            return self._results_by_name[t.name]
        if t.name in self._input_names:
            return self._slot("input", t.name)
        name = self._mapping.get(t.name, t.name)
        self.first_reader.setdefault(name, reader)
        return self.weights.setdefault(name, self._slot("weight", name))

    def _step(self, node: OpNode) -> Step:
        slots = [self._source(t, f"node '{node.name}'") for t in node.inputs]
        custom = get_execution_fn(node.op_type)
        if node.op_type == GETITEM:
            step = bind_getitem(node, slots)
        elif custom is not None:
            attrs = self._attrs(node)
            step = Step(node, lambda inputs, fn=custom, attrs=attrs: fn([t.detach() for t in inputs], attrs), [None])
            step.lists = [(0, list(slots))]
        elif node.op_type in ("cond", "while_loop"):
            step = Step(node, self._control_flow(node), [None])
            step.lists = [(0, list(slots))]
        else:
            step = bind_operator(node, slots, self._attrs(node))
        for index, meta in enumerate(node.outputs):
            slot = self._slot("result", node.name, index)
            step.outputs.append(slot)
            self._results_by_name[meta.name] = slot
        return step

    def _attrs(self, node: OpNode) -> dict[str, Any]:
        # The device of the trace may not be the one that runs it.
        return {k: self.device if isinstance(v, torch.device) else v for k, v in node.attrs.items()}

    def _control_flow(self, node: OpNode) -> Callable[[list[torch.Tensor]], Any]:
        first, second = (self._subplans[node.attrs[role]] for role in _ROLES[node.op_type])
        if node.op_type == "cond":
            return lambda t: run_plan(first if bool(t[0]) else second, t[1:], {})[0]
        carried = node.attrs["num_carried"]

        def loop(t: list[torch.Tensor]) -> Any:
            state, rest = list(t[:carried]), list(t[carried:])
            while bool(run_plan(first, [*state, *rest], {})[0][0]):
                state = list(run_plan(second, [*state, *rest], {})[0])
            return state

        return loop

    def _mark_dead(self) -> None:
        keep = {*self.outputs, *(slot for _, slot in self.mutations), *self.weights.values()}
        seen = set(keep)
        for step in reversed(self.steps):
            used = [s for _, s in (*step.holes, *step.keywords)] + [
                s for _, many in step.lists for s in many if s is not None
            ]
            for slot in (*used, *step.outputs):
                if slot not in seen:
                    seen.add(slot)
                    step.dead.append(slot)


_ROLES = {"cond": ("true_graph", "false_graph"), "while_loop": ("cond_graph", "body_graph")}


def run_plan(
    plan: Plan, inputs: Sequence[Tensor], weights: Mapping[int, Tensor], observe: Observer | None = None
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The graph's outputs, and the tensors that it wrote, by name."""
    slots: list[Any] = [None] * plan.size
    for slot, tensor in zip(plan.inputs, inputs, strict=True):
        slots[slot] = tensor
    for slot, tensor in weights.items():
        slots[slot] = tensor
    with torch.no_grad(), _without_autocast(plan.device.type):
        _run_steps(plan, slots, observe)
    return [slots[s].detach() for s in plan.outputs], {m.target: slots[s] for m, s in plan.mutations}


def _without_autocast(kind: str) -> contextlib.AbstractContextManager[Any]:
    """Disables the caller's autocast, because the graph already contains its own casts."""
    available = torch.amp.autocast_mode.is_autocast_available(kind)
    if not available or not torch.is_autocast_enabled(kind):
        return contextlib.nullcontext()
    return torch.autocast(kind, enabled=False)


def _run_steps(plan: Plan, slots: list[Any], observe: Observer | None) -> None:
    for step in plan.steps:
        args = step.args.copy()
        for position, slot in step.holes:
            args[position] = slots[slot]
        for position, many in step.lists:
            args[position] = [None if s is None else slots[s] for s in many]
        try:
            kwargs = step.kwargs
            if step.keywords:
                kwargs = {**kwargs, **{name: slots[slot] for name, slot in step.keywords}}
            result = step.fn(*args, **kwargs)
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
    location = ", ".join(x for x in (node.module_path and f"module {node.module_path}", node.source) if x)
    return f"Failed to execute node '{node.name}' (op: {node.op_type}): {error}" + (
        f" [{location}]" if location else ""
    )
