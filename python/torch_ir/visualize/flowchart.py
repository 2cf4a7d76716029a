"""Draws a graph as Mermaid text, with a box for every node."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from npu_base.errors import InvalidValueError

from ..ir import check_ir
from .labels import IdTable, _format_shape, _get_short_op_name, _sanitize_label
from .wiring import Origin, Wiring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_ir.ir import IR, OpNode, TensorMeta

PREFIXES = {"node": "op_", "input": "input_", "weight": "w_"}


def ir_to_mermaid(ir: IR, max_nodes: int = 30, include_weights: bool = True) -> str:
    """A Mermaid flowchart of the first ``max_nodes`` nodes; 0 draws all of them.

    Graph outputs whose producer is beyond the limit are connected to a note with the number of remaining nodes.
    """
    check_ir(ir)
    if not isinstance(max_nodes, int) or max_nodes < 0:
        raise InvalidValueError(f"max_nodes must be 0 (all nodes) or more, got {max_nodes!r}")
    return _Flowchart(ir, max_nodes or len(ir.nodes), include_weights).draw()


def input_line(ids: IdTable, t: TensorMeta) -> str:
    name = _sanitize_label(t.name)
    return f'    {ids.get("input_", t.name)}[/"Input: {name}<br/>{_format_shape(t.shape)}"/]'


def node_line(ids: IdTable, node: OpNode) -> str:
    label = _sanitize_label(_get_short_op_name(node.op_type))
    return f'    {ids.get("op_", node.name)}["{label}<br/>{first_shape(node.outputs)}"]'


def output_lines(ids: IdTable, index: int, t: TensorMeta, producer: str) -> list[str]:
    # A node or tensor may be called output_0 too.
    own = ids.get("output_", str(index))
    return [f'    {own}[\\"Output<br/>{_format_shape(t.shape)}"/]', f"    {producer} --> {own}"]


def arrow(source: str, label: str, target: str, line: str = "-->") -> str:
    # Mermaid refuses empty labels, which scalars would have.
    return f'    {source} {line}|"{label}"| {target}' if label else f"    {source} {line} {target}"


def first_shape(outputs: Sequence[TensorMeta]) -> str:
    return _format_shape(outputs[0].shape) if outputs else ""


class _Flowchart:
    def __init__(self, ir: IR, limit: int, include_weights: bool) -> None:
        self.ir = ir
        self.nodes = ir.nodes[:limit]
        self.hidden = len(ir.nodes) - len(self.nodes)
        self.include_weights = include_weights
        self.wiring = Wiring(ir)
        self.ids = IdTable()
        self.lines = ["flowchart TD"]

    def draw(self) -> str:
        # Assign ids first, in the order of the graph, so that they do not depend on the readers of a node.
        for t in self.ir.graph_inputs:
            self.lines.append(input_line(self.ids, t))
        for node in self.nodes:
            self.ids.get("op_", node.name)
        for node in self.nodes:
            self._node(node)
        drawn = {n.name for n in self.nodes}
        for i, t in enumerate(self.ir.graph_outputs):
            self._output(i, t, drawn)
        if self.hidden:
            self.lines.append(f'    note["... {self.hidden} more nodes ..."]')
        return "\n".join(self.lines)

    def _id(self, origin: Origin) -> str:
        return self.ids.get(PREFIXES[origin.kind], origin.name)

    def _node(self, node: OpNode) -> None:
        own = self.ids.get("op_", node.name)
        self.lines.append(node_line(self.ids, node))
        for t in node.inputs:
            origin = self.wiring.origin(t)
            shape = _format_shape(t.shape)
            if origin.kind != "weight":
                self.lines.append(arrow(self._id(origin), shape, own))
            elif self.include_weights:
                self._weight(t)
                self.lines.append(arrow(self._id(origin), shape, own, "-.->"))

    def _weight(self, t: TensorMeta) -> None:
        label = f"{_sanitize_label(t.name)}<br/>{_format_shape(t.shape)}"
        self.lines.append(f'    {self.ids.get("w_", t.name)}[/"{label}"/]')

    def _output(self, index: int, t: TensorMeta, drawn: set[str]) -> None:
        origin = self.wiring.origin(t)
        if origin.kind == "weight":
            self._weight(t)
        hidden = origin.kind == "node" and origin.name not in drawn
        self.lines += output_lines(self.ids, index, t, "note" if hidden else self._id(origin))


def generate_op_distribution_pie(ir: IR, top_n: int = 10) -> str:
    """A Mermaid pie chart of the ``top_n`` most frequent operators; the rest count as "Others"."""
    check_ir(ir)
    if not isinstance(top_n, int) or top_n < 0:
        raise InvalidValueError(f"top_n must be 0 or more, got {top_n!r}")
    ranked = Counter(n.op_type for n in ir.nodes).most_common()
    lines = ["pie showData", '    title "Operator Distribution"']
    lines += [f'    "{_sanitize_label(_get_short_op_name(op))}" : {n}' for op, n in ranked[:top_n]]
    if len(ranked) > top_n:
        lines.append(f'    "Others" : {sum(n for _, n in ranked[top_n:])}')
    return "\n".join(lines)
