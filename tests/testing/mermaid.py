"""Graph pictures, from where they were first imported."""

from torch_ir.visualize import (
    _format_shape,
    _get_short_op_name,
    _sanitize_label,
    generate_op_distribution_pie,
    ir_to_mermaid,
)

__all__ = [
    "_format_shape",
    "_get_short_op_name",
    "_sanitize_label",
    "generate_op_distribution_pie",
    "ir_to_mermaid",
]
