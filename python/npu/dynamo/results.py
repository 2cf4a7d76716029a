"""The results of a graph as its caller expects them: which tensor each one is, and its strides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["Results"]

Finish = Callable[[Tensor], Tensor]


class Results:
    """Reduces the outputs of a graph to tensors that it computes, each once, in row-major order.

    What is left, arguments that are returned as they are and constants, needs no program.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        (output,) = graph.graph.find_nodes(op="output")
        returned = output.args[0]
        self.is_single = not isinstance(returned, (list, tuple))
        arguments = {node: i for i, node in enumerate(graph.graph.find_nodes(op="placeholder"))}
        computed: dict[fx.Node, int] = {}
        rows: list[fx.Node] = []
        self.finish: list[Finish | None] = []
        self.devices: list[torch.device] = []
        self._sources: list[tuple[str, Any]] = []
        for value in [returned] if self.is_single else returned:
            if not isinstance(value, fx.Node):
                self._sources.append(("value", value))
            elif value in arguments:
                self._sources.append(("argument", arguments[value]))
            elif value.op == "get_attr":
                self._sources.append(("value", getattr(graph, str(value.target))))
            elif not isinstance(value.meta.get("val"), Tensor):
                self._sources.append(("value", value.meta.get("val")))
            else:
                if value not in computed:
                    computed[value] = len(rows)
                    row, finish = _row_major(graph.graph, output, value)
                    rows.append(row)
                    self.finish.append(finish)
                    self.devices.append(value.meta["val"].device)
                self._sources.append(("result", computed[value]))
        output.args = (tuple(rows),)
        self._in_order = self._sources == [("result", i) for i in range(len(rows))]
        self.are_computed = self._in_order and not any(self.finish)
        """Whether there is nothing left to do with what the program returns."""

    def collect(self, args: Sequence[Any], results: list[Tensor]) -> list[Any]:
        """The outputs of one call from its arguments and what the program computed."""
        if any(self.finish):
            results = [r if f is None else f(r) for r, f in zip(results, self.finish, strict=True)]
        if self._in_order:
            return results
        by_kind = {"result": results, "argument": args}
        return [what if kind == "value" else by_kind[kind][what] for kind, what in self._sources]


def _row_major(graph: fx.Graph, output: fx.Node, node: fx.Node) -> tuple[fx.Node, Finish | None]:
    """A node with the same elements in the order of memory, and what makes the result's own strides of it."""
    fake = node.meta["val"]
    shape, strides = tuple(fake.shape), tuple(fake.stride())
    if not fake.numel():
        return node, lambda result: result.as_strided(shape, strides)
    if strides == _strides_of(shape):
        return node, None
    order = sorted(range(len(shape)), key=lambda i: (-strides[i], shape[i] == 1, i))
    if not _is_dense(shape, strides):
        return node, lambda result: _restride(result, shape, strides)
    if all(order[i] < order[i + 1] or shape[order[i]] == 1 for i in range(len(order) - 1)):
        return node, lambda result: result.as_strided(shape, strides)
    with graph.inserting_before(output):
        turned = graph.call_function(torch.ops.aten.permute.default, (node, order))
    turned.meta = {**node.meta, "val": fake.permute(order)}
    return turned, lambda result: result.as_strided(shape, strides)


def _strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(max(extent, 1) for extent in shape[i + 1 :]) for i in range(len(shape)))


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    expected = 1
    for stride, extent in sorted((s, e) for s, e in zip(strides, shape, strict=True) if e != 1):
        if stride != expected:
            return False
        expected *= extent
    return True


def _restride(result: Tensor, shape: Sequence[int], strides: Sequence[int]) -> Tensor:
    for axis, stride in enumerate(strides):
        if stride == 0 and shape[axis] > 1:
            result = result.narrow(axis, 0, 1)
    target = torch.empty_strided(result.shape, strides, dtype=result.dtype, device=result.device)
    target.copy_(result)
    return target.as_strided(shape, strides)
