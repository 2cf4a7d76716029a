"""A value that is only copied into a part of another value is computed there in the first place."""

from __future__ import annotations

from ..graph import Graph, Op, remap
from ..oplist import OpList


def place_cat(graph: Graph) -> None:
    outputs = graph.output_values()
    for ops in (graph.main, graph.prepare):
        for copy in ops:
            source = copy.inputs[0] if copy.kind == "copy" else None
            if source is None or not source.is_dense or source.value.kind != "temp" or source.value in outputs:
                continue
            _place(graph, ops, copy)


def _place(graph: Graph, ops: OpList[Op], copy: Op) -> None:
    value = next(copy.reads()).value
    target = copy.out.reshape(value.shape)
    if target is None or target.value is value or any(not graph.is_in(m, ops) for m in graph.writers(value)):
        return
    # The whole can be read once its last part is written, so other readers of this part must come after that.
    last = graph.position(graph.writers(target.value)[-1])
    others = [r for r in graph.readers(value) if r is not copy]
    if any(not graph.is_in(r, ops) or graph.position(r) <= last for r in others):
        return
    if graph.relocate([value], lambda view: remap(view, target), skip=[copy]):
        graph.remove(copy)
