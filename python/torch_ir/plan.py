"""An IR's nodes resolved once into calls over numbered slots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ._encoding import dtype_from_str
from .errors import ExecutionError
from .ir import IR, OpNode, TensorMeta
from .ops.registry import get_execution_fn
from .ops.schemas import Argument, arguments_of, resolve_op

_GETITEM = "<built-in function getitem>"
# These reach outside of the process; a file that came from elsewhere must not.
_REFUSED = ("aten.from_file",)


@dataclass
class Step:
    """One node: the function, its arguments with holes for tensors, and the slots that fill them."""

    node: OpNode
    fn: Callable[..., Any]
    args: list[Any] = field(default_factory=list)
    holes: list[tuple[int, int]] = field(default_factory=list)
    """(position in args, slot)"""
    lists: list[tuple[int, list[int | None]]] = field(default_factory=list)
    """(position in args, slots of a list of tensors, None where it holds None)"""
    kwargs: dict[str, Any] = field(default_factory=dict)
    outputs: list[int] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    """Slots that no later step reads"""


class Plan:
    """Steps in order; slots hold inputs first, then weights, then results."""

    def __init__(self, ir: IR, device: torch.device) -> None:
        self.device = device
        self.slots: dict[tuple[str, str, int], int] = {}
        self.inputs = [self._slot("input", t.name) for t in ir.graph_inputs]
        self.weights: dict[str, int] = {}
        self.first_reader: dict[str, str] = {}
        self._input_names = {t.name for t in ir.graph_inputs}
        self._made = {n.name for n in ir.nodes}
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
            if t.producer_node in self._made:
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
        if node.op_type == _GETITEM:
            step = _getitem(node, slots)
        elif custom is not None:
            attrs = self._attrs(node)
            step = Step(node, lambda inputs, fn=custom, attrs=attrs: fn([t.detach() for t in inputs], attrs), [None])
            step.lists = [(0, list(slots))]
        elif node.op_type in ("cond", "while_loop"):
            step = Step(node, self._control_flow(node), [None])
            step.lists = [(0, list(slots))]
        else:
            step = self._aten(node, slots)
        for index, meta in enumerate(node.outputs):
            slot = self._slot("result", node.name, index)
            step.outputs.append(slot)
            self._results_by_name[meta.name] = slot
        return step

    def _attrs(self, node: OpNode) -> dict[str, Any]:
        # The trace was made on a device that need not be the one that runs it.
        return {k: self.device if isinstance(v, torch.device) else v for k, v in node.attrs.items()}

    def _aten(self, node: OpNode, slots: list[int]) -> Step:
        op = resolve_op(node.op_type)
        if op is None:
            raise ExecutionError(
                f"Failed to execute node '{node.name}' (op: {node.op_type}): No execution function registered for "
                f"op_type '{node.op_type}', and PyTorch {torch.__version__} has no such operator"
            )
        if node.op_type.startswith(_REFUSED):
            raise ExecutionError(f"Failed to execute node '{node.name}' (op: {node.op_type}): it reads files")
        return _Binder(node, op, slots, self._attrs(node)).bind()

    def _control_flow(self, node: OpNode) -> Callable[[list[torch.Tensor]], Any]:
        from .executor import run_plan

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
            used = [s for _, s in step.holes] + [s for _, many in step.lists for s in many if s is not None]
            for slot in (*used, *step.outputs):
                if slot not in seen:
                    seen.add(slot)
                    step.dead.append(slot)


_ROLES = {"cond": ("true_graph", "false_graph"), "while_loop": ("cond_graph", "body_graph")}


def _getitem(node: OpNode, slots: list[int]) -> Step:
    """Selects by the position in the whole tuple, which output names end in; None outputs leave gaps."""
    wanted = node.attrs["index"]
    suffix = f"_{wanted}"
    named = [i for i, t in enumerate(node.inputs) if t.producer_node and t.name == t.producer_node + suffix]
    index = named[0] if named else wanted
    if not isinstance(index, int) or not -len(slots) <= index < len(slots):
        raise ExecutionError(
            f"Failed to execute node '{node.name}' (op: {node.op_type}): index {wanted!r} of {len(slots)} outputs"
        )
    return Step(node, lambda x: x, [None], [(0, slots[index])])


class _Binder:
    """Matches a node's inputs and attributes to its operator's schema."""

    def __init__(self, node: OpNode, op: Any, slots: list[int], attrs: dict[str, Any]) -> None:
        self.node, self.attrs = node, attrs
        self.slots = iter(slots)
        self.left = len(slots)
        self.arguments = arguments_of(op)
        self.sizes = iter(attrs.get("_tensor_list_sizes", ()))
        masks = attrs.get("_tensor_list_none_masks", ())
        self.masks = iter(masks)
        # _op skips a Python layer of the overload's own call.
        self.step = Step(node, getattr(op, "_op", op))

    def bind(self) -> Step:
        pending: list[tuple[str, Any]] = []
        for argument in self.arguments:
            if argument.kwarg_only:
                self._keyword(argument)
            else:
                pending.append((argument.name, argument))
        # Schema order, but tensors of keyword-only arguments come last in IR as in the schema.
        self._positional([a for _, a in pending])
        if self.left:
            raise ExecutionError(
                f"Failed to execute node '{self.node.name}' (op: {self.node.op_type}): {self.left} of its "
                f"{len(self.node.inputs)} inputs fit no argument of the operator's schema"
            )
        return self.step

    def _positional(self, arguments: list[Argument]) -> None:
        args, step = self.step.args, self.step
        for position, argument in enumerate(arguments):
            if argument.kind == "tensor" and argument.name not in self.attrs:
                slot = None if argument.name in self.node.absent_inputs else self._take(argument)
                args.append(None)
                if slot is not None:
                    step.holes.append((position, slot))
            elif argument.kind == "tensors" and argument.name not in self.attrs:
                args.append(None)
                many = self._take_list(argument)
                if many is not None:
                    step.lists.append((position, many))
            else:
                args.append(self._value(argument))

    def _take(self, argument: Argument) -> int | None:
        slot = next(self.slots, None)
        if slot is not None:
            self.left -= 1
        elif not argument.optional:
            raise ExecutionError(
                f"Failed to execute node '{self.node.name}' (op: {self.node.op_type}): no input for argument "
                f"'{argument.name}'"
            )
        return slot

    def _take_list(self, argument: Argument) -> list[int | None] | None:
        size = next(self.sizes, None)
        if size is None:
            if argument.optional or argument.has_default:
                return None
            size = self.left  # older files without sizes: one list takes all that is left
        holes: list[int | None] = [self._take(argument) for _ in range(size)]
        if holes.count(None):
            raise ExecutionError(
                f"Failed to execute node '{self.node.name}' (op: {self.node.op_type}): argument '{argument.name}' "
                f"needs {size} tensors, the node has fewer inputs"
            )
        mask = next(self.masks, None) if self._list_has_none(size) else None
        if mask is None:
            return holes
        filled = iter(holes)
        return [None if missing else next(filled) for missing in mask]

    def _list_has_none(self, size: int) -> bool:
        """Masks are only written for lists that hold None, so one is taken only where it fits the list's size."""
        remaining = list(self.masks)
        self.masks = iter(remaining)
        return bool(remaining) and remaining[0].count(False) == size

    def _value(self, argument: Argument) -> Any:
        if argument.name in self.attrs:
            return self.attrs[argument.name]
        if argument.has_default:
            return argument.default
        if argument.optional:
            return None
        raise ExecutionError(
            f"Failed to execute node '{self.node.name}' (op: {self.node.op_type}): attribute '{argument.name}' is "
            f"missing"
        )

    def _keyword(self, argument: Argument) -> None:
        if argument.name in self.attrs:
            self.step.kwargs[argument.name] = self.attrs[argument.name]
        elif argument.kind == "tensor" and not argument.optional:
            raise ExecutionError(
                f"Failed to execute node '{self.node.name}' (op: {self.node.op_type}): keyword-only tensor argument "
                f"'{argument.name}' is not supported"
            )
