"""Summarizes a graph, as text and as JSON types."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from npu_base.sizes import Size

if TYPE_CHECKING:
    from .ir import IR, TensorMeta


def summarize(ir: IR) -> dict[str, Any]:
    """The output of ``torch-ir info --json``. Parameters include buffers and constants; a scalar counts as one."""
    ops = Counter(n.op_type for n in ir.nodes)
    return {
        "model_name": ir.model_name,
        "num_nodes": len(ir.nodes),
        "num_inputs": len(ir.graph_inputs),
        "num_outputs": len(ir.graph_outputs),
        "num_weights": len(ir.weights),
        "total_parameters": sum(math.prod(w.shape) for w in ir.weights),
        "input_shapes": _shapes(ir.graph_inputs),
        "output_shapes": _shapes(ir.graph_outputs),
        "op_distribution": dict(ops.most_common()),
        **({"open_sizes": list(map(str, ir.sizes))} if ir.sizes else {}),
    }


def _shapes(metas: list[TensorMeta]) -> dict[str, list[int | str]]:
    return {t.name: [size.text if isinstance(size, Size) else size for size in t.shape] for t in metas}


def summary_text(ir: IR) -> str:
    s = summarize(ir)
    lines = [
        f"Model: {s['model_name']}",
        f"Nodes: {s['num_nodes']}",
        f"Inputs: {s['num_inputs']}",
        f"Outputs: {s['num_outputs']}",
        f"Weights: {s['num_weights']}",
        f"Total parameters: {s['total_parameters']:,}",
        *(f"Open size: {size}" for size in s.get("open_sizes", ())),
        "",
        "Input shapes:",
        # From the list, because one tensor may be returned twice.
        *(f"  {t.name}: {list(t.shape)}" for t in ir.graph_inputs),
        "",
        "Output shapes:",
        *(f"  {t.name}: {list(t.shape)}" for t in ir.graph_outputs),
        "",
        "Op distribution:",
        *(f"  {op}: {n}" for op, n in s["op_distribution"].items()),
    ]
    return "\n".join(lines)
