"""Binds nodes to the functions that execute them, and slots to their arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ._encoding import dtype_from_str
from .errors import ExecutionError
from .ops.schemas import Argument, arguments_of, resolve_op
from .parts import OpNode

GETITEM = "<built-in function getitem>"
# These access files, which an IR from an untrusted source must not do.
_REFUSED = ("aten.from_file",)


@dataclass
class Step:
    """A node bound for execution: its function, the arguments with holes for tensors, and the slots that fill them."""

    node: OpNode
    fn: Callable[..., Any]
    args: list[Any] = field(default_factory=list)
    holes: list[tuple[int, int]] = field(default_factory=list)
    """(position in args, slot)"""
    lists: list[tuple[int, list[int | None]]] = field(default_factory=list)
    """(position in args, slots of a list of tensors; None for entries that are None)"""
    kwargs: dict[str, Any] = field(default_factory=dict)
    keywords: list[tuple[str, int]] = field(default_factory=list)
    """(keyword, slot)"""
    outputs: list[int] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    """Slots that no later step reads"""


def bind_getitem(node: OpNode, slots: list[int]) -> Step:
    """Selects by the position in the whole tuple, with which output names end. None outputs leave gaps."""
    wanted = node.attrs["index"]
    suffix = f"_{wanted}"
    named = [i for i, t in enumerate(node.inputs) if t.producer_node and t.name == t.producer_node + suffix]
    index = named[0] if named else wanted
    if not isinstance(index, int) or not -len(slots) <= index < len(slots):
        raise ExecutionError(
            f"Failed to execute node '{node.name}' (op: {node.op_type}): it takes output {wanted!r} of {len(slots)}"
        )
    return Step(node, lambda x: x, [None], [(0, slots[index])])


def bind_operator(node: OpNode, slots: list[int], attrs: dict[str, Any]) -> Step:
    """The step for one of PyTorch's operators."""
    op = resolve_op(node.op_type)
    if op is None:
        raise ExecutionError(
            f"Failed to execute node '{node.name}' (op: {node.op_type}): No execution function registered for "
            f"op_type '{node.op_type}', and PyTorch {torch.__version__} has no such operator"
        )
    if node.op_type.startswith(_REFUSED):
        raise ExecutionError(f"Failed to execute node '{node.name}' (op: {node.op_type}): it reads files")
    return _Binder(node, op, slots, attrs).bind()


class _Binder:
    """Matches a node's inputs and attributes to its operator's schema."""

    def __init__(self, node: OpNode, op: Any, slots: list[int], attrs: dict[str, Any]) -> None:
        self.node, self.attrs = node, attrs
        self.slots = iter(slots)
        self.left = len(slots)
        self.arguments = arguments_of(op)
        self.sizes = iter(attrs.get("_tensor_list_sizes", ()))
        self.masks = list(attrs.get("_tensor_list_none_masks", ()))
        # _op avoids the Python layer of the overload's __call__.
        self.step = Step(node, getattr(op, "_op", op))

    def bind(self) -> Step:
        self._positional([a for a in self.arguments if not a.kwarg_only])
        for argument in self.arguments:
            if argument.kwarg_only:
                self._keyword(argument)
        if self.left:
            raise ExecutionError(
                f"Failed to execute node '{self.node.name}' (op: {self.node.op_type}): {self.left} of its "
                f"{len(self.node.inputs)} inputs match no argument of the operator's schema"
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
            size = self.left  # older files have no sizes: one list takes all remaining inputs
        holes: list[int | None] = [self._take(argument) for _ in range(size)]
        if holes.count(None):
            raise ExecutionError(
                f"Failed to execute node '{self.node.name}' (op: {self.node.op_type}): argument '{argument.name}' "
                f"needs {size} tensors, the node has fewer inputs"
            )
        # Only lists that contain None have a mask, so a mask is used only if it fits the list's size.
        if not self.masks or self.masks[0].count(False) != size:
            return holes
        mask = self.masks.pop(0)
        filled = iter(holes)
        return [None if missing else next(filled) for missing in mask]

    def _value(self, argument: Argument) -> Any:
        if argument.name in self.attrs:
            return self.attrs[argument.name]
        if self._is_own_dtype(argument):
            return dtype_from_str(self.node.outputs[0].dtype)
        if argument.has_default:
            return argument.default
        if argument.optional:
            return None
        raise ExecutionError(
            f"Failed to execute node '{self.node.name}' (op: {self.node.op_type}): attribute '{argument.name}' is "
            f"missing"
        )

    def _is_own_dtype(self, argument: Argument) -> bool:
        """Tensors created from nothing get the default dtype of the trace, not the current one."""
        return (
            argument.name == "dtype" and argument.kind == "dtype" and not self.node.inputs and bool(self.node.outputs)
        )

    def _keyword(self, argument: Argument) -> None:
        if argument.name in self.attrs:
            self.step.kwargs[argument.name] = self.attrs[argument.name]
        elif self._is_own_dtype(argument):
            self.step.kwargs[argument.name] = dtype_from_str(self.node.outputs[0].dtype)
        elif argument.kind == "tensor" and argument.name not in self.node.absent_inputs and self.left:
            slot = self._take(argument)
            if slot is not None:
                self.step.keywords.append((argument.name, slot))
