"""Figures about an IR."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from torch_ir import IR


@dataclass
class IRStatistics:
    """What reports say about an IR.

    An edge is a tensor that flows into a node from another node or from a graph input; weights are no edges.
    ``total_weight_params`` counts parameters, buffers and constants; a scalar counts 1.
    """

    num_nodes: int = 0
    num_edges: int = 0
    num_inputs: int = 0
    num_outputs: int = 0
    num_weights: int = 0
    op_distribution: dict[str, int] = field(default_factory=dict)
    node_shapes: list[dict[str, Any]] = field(default_factory=list)
    weight_metadata: list[dict[str, Any]] = field(default_factory=list)
    total_weight_params: int = 0

    @classmethod
    def from_ir(cls, ir: IR) -> IRStatistics:
        weights = _weight_rows(ir)
        counts = Counter(n.op_type for n in ir.nodes)
        # Old files may give weights a producer; their placeholder names tell them apart.
        placeholders = set(ir.weight_name_mapping)
        edges = sum(t.producer_node is not None and t.name not in placeholders for n in ir.nodes for t in n.inputs)
        return cls(
            num_nodes=len(ir.nodes),
            num_edges=edges,
            num_inputs=len(ir.graph_inputs),
            num_outputs=len(ir.graph_outputs),
            num_weights=len(weights),
            op_distribution=dict(counts.most_common()),
            node_shapes=[
                {
                    "name": n.name,
                    "op_type": n.op_type,
                    "input_shapes": [list(t.shape) for t in n.inputs],
                    "output_shapes": [list(t.shape) for t in n.outputs],
                }
                for n in ir.nodes
            ],
            weight_metadata=weights,
            total_weight_params=sum(w["num_params"] for w in weights),
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _weight_rows(ir: IR) -> list[dict[str, Any]]:
    rows = {t.name: (t.shape, t.dtype) for t in ir.weights}
    for name, value in ir.constants.items():
        rows.setdefault(name, (tuple(value.shape), str(value.dtype).removeprefix("torch.")))
    return [
        {"name": name, "shape": list(shape), "dtype": dtype, "num_params": math.prod(shape)}
        for name, (shape, dtype) in rows.items()
    ]
