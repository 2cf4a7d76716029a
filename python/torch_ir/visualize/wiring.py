"""Finds the producers of a graph's tensors, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch_ir.ir import IR, TensorMeta


class Origin(NamedTuple):
    kind: Literal["node", "input", "weight"]
    name: str
    """The name of the node or graph input, or the node's name for the weight."""
    output: int = 0


class Wiring:
    def __init__(self, ir: IR) -> None:
        self.nodes = {n.name: i for i, n in enumerate(ir.nodes)}
        self.inputs = {t.name for t in ir.graph_inputs}
        self.mapping = ir.weight_name_mapping
        self.weights = {t.name: t for t in ir.weights}
        # The outputs of a node with several results have their own names.
        self._outputs = {t.name: (n.name, i) for n in ir.nodes for i, t in enumerate(n.outputs)}

    def origin(self, t: TensorMeta) -> Origin:
        """The producer of a tensor that a node or graph output reads, even if none is recorded."""
        producer = t.producer_node
        if producer is not None:
            if producer in self.nodes:
                return Origin("node", producer, t.producer_output_idx)
            if producer in self.inputs:
                return Origin("input", producer)
        if t.name in self.weights or t.name in self.mapping:
            return Origin("weight", t.name)
        if t.name in self.inputs:
            return Origin("input", t.name)
        if t.name in self._outputs:
            return Origin("node", *self._outputs[t.name])
        # Validation reports such a tensor. The picture shows it as a weight.
        return Origin("weight", t.name)

    def state_name(self, placeholder: str) -> str:
        return self.mapping.get(placeholder, placeholder)
