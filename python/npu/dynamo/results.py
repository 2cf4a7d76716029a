"""The results of a graph as its caller expects them: which tensor each one is, and its strides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from npu.dynamo.sharing import drop_unread_views, owners_of_shared, view_of_memory

__all__ = ["Results"]

Finish = Callable[[Tensor], Tensor]


class Results:
    """Reduces the outputs of a graph to tensors that it computes, each once, in row-major order.

    Outputs that share memory are views of one of them. What is left, arguments that are returned as they are and
    constants, needs no program.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        (output,) = graph.graph.find_nodes(op="output")
        returned = output.args[0]
        values = returned if isinstance(returned, (list, tuple)) else [returned]
        arguments = {node: i for i, node in enumerate(graph.graph.find_nodes(op="placeholder"))}
        sources = [_source(graph, arguments, value) for value in values]
        computed = {node: i for i, node in enumerate(dict.fromkeys(v for kind, v in sources if kind == "result"))}
        owners, self.without_owner = owners_of_shared(graph.graph, list(computed))
        as_they_are = bool(self.without_owner)
        rows: dict[fx.Node, tuple[int, Finish | None]] = {}
        row_major: list[fx.Node] = []
        self.devices: list[torch.device] = []
        self._made: list[tuple[int, Finish | None]] = []
        for node in computed:
            owner = node if as_they_are else owners.get(node, node)
            if owner not in rows:
                row, finish = (node, None) if as_they_are else _row_major(graph.graph, output, owner)
                rows[owner] = len(row_major), finish
                row_major.append(row)
                self.devices.append(owner.meta["val"].device)
            row_index, finish = rows[owner]
            self._made.append((row_index, finish if node is owner else view_of_memory(node)))
        output.args = (tuple(row_major),)
        if not as_they_are:
            drop_unread_views(graph.graph, owners.values())
        self._sources = [(kind, computed[v] if kind == "result" else v) for kind, v in sources]
        self._in_order = self._sources == [("result", i) for i in range(len(computed))]
        self._unchanged = self._made == [(i, None) for i in range(len(row_major))]
        self.are_computed = self._in_order and self._unchanged
        """Whether there is nothing left to do with what the program returns."""
        self.count = len(row_major)
        """How many tensors the program returns."""

    def collect(self, args: Sequence[Any], returned: list[Tensor]) -> list[Any]:
        """The outputs of one call from its arguments and what the program returned."""
        results = returned
        if not self._unchanged:
            results = [returned[i] if f is None else f(returned[i]) for i, f in self._made]
        if self._in_order:
            return results
        by_kind = {"result": results, "argument": args}
        return [what if kind == "value" else by_kind[kind][what] for kind, what in self._sources]


def _source(graph: fx.GraphModule, arguments: dict[fx.Node, int], value: Any) -> tuple[str, Any]:
    """Where an output comes from: the node of a ``result``, the position of an ``argument`` or the ``value`` itself."""
    if not isinstance(value, fx.Node):
        return "value", value
    if value in arguments:
        return "argument", arguments[value]
    if value.op == "get_attr":
        return "value", getattr(graph, str(value.target))
    fake = value.meta.get("val")
    return ("result", value) if isinstance(fake, Tensor) else ("value", fake)


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
