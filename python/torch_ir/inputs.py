"""Flattens and checks the inputs that a caller of an IR passes."""

from __future__ import annotations

from typing import Any

from npu_base.arguments import ArgumentBinder
from torch import Tensor
from torch.utils import _pytree as pytree

from ._encoding import decode_attr
from .errors import InvalidInputError
from .ir import IR


class InputBinder(ArgumentBinder):
    """Converts the caller's arguments to the graph's inputs, which must be tensors with data."""

    error = InvalidInputError
    area = ""
    conversion = "pass torch.tensor(...)"

    def __init__(self, ir: IR, strict: bool) -> None:
        super().__init__(ir.graph_inputs, ir.input_structure)
        self.ir, self.strict = ir, strict

    def bind(self, inputs: Any, kwargs: Any) -> list[Tensor]:
        tensors = super().bind(inputs, kwargs)
        for tensor, spec in zip(tensors, self.inputs, strict=True):
            if tensor.is_meta:
                self.refuse(f"Input '{spec.name}' is on meta, so it has no data to run on")
        return tensors

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, Tensor)

    def contents(self, value: Any) -> list[Any] | None:
        return contents(value)

    def decode(self, value: Any) -> Any:
        return decode_attr(value, "", "")

    def free_axes(self) -> int:
        return 0 if self.strict else 1


def contents(value: Any) -> list[Any] | None:
    """What a container of a class that PyTorch knows holds."""
    children = pytree.tree_leaves(value, is_leaf=lambda x: x is not value)
    return None if len(children) == 1 and children[0] is value else children
