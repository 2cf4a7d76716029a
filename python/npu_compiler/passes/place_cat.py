"""What is only made to be copied into a part of another value is made there."""

from __future__ import annotations

from ..graph import Graph, Op, remap


def place_cat(graph: Graph) -> None:
    for ops in (graph.main, graph.prepare):
        _place(graph, ops)


def _place(graph: Graph, ops: list[Op]) -> None:
    writers, readers, outputs = graph.writers(), graph.readers(), graph.output_values()
    position = {id(op): i for i, op in enumerate(ops)}
    gone: set[int] = set()
    for copy in ops:
        source = copy.inputs[0] if copy.kind == "copy" else None
        if source is None or not source.is_dense or source.value.kind != "temp" or source.value in outputs:
            continue
        value, target = source.value, copy.out.reshape(source.value.shape)
        makers = writers[value]
        if target is None or any(id(m) not in position for m in makers) or target.value is value:
            continue
        # The whole becomes readable when its last part is written; whoever else reads ours must come after that.
        last = max(position[id(w)] for w in writers[target.value])
        others = [r for r in readers.get(value, []) if r is not copy]
        if any(position.get(id(r), -1) <= last for r in others):
            continue
        writes = [
            (m, i, remap(v, target))
            for m in makers
            for i, v in enumerate(m.outputs)
            if v is not None and v.value is value
        ]
        reads = [
            (r, i, remap(v, target))
            for r in others
            for i, v in enumerate(r.inputs)
            if v is not None and v.value is value
        ]
        if any(view is None for _, _, view in writes + reads):
            continue
        for op, i, view in writes:
            op.outputs[i] = view
        for op, i, view in reads:
            op.inputs[i] = view
        gone.add(id(copy))
        kept = [w for w in writers[target.value] if w is not copy]
        writers[target.value] = kept + [m for m in makers if m not in kept]
        known = readers.setdefault(target.value, [])
        known += [r for r in others if r not in known]
    ops[:] = [op for op in ops if id(op) not in gone]
