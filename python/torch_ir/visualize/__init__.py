"""Pictures of a graph: Mermaid text of every node or folded by module, pie charts, PNG and SVG."""

from __future__ import annotations

from .flowchart import generate_op_distribution_pie, ir_to_mermaid
from .folded import modules_to_mermaid
from .labels import _format_shape, _get_short_op_name, _sanitize_label
from .rendering import RenderingError, RenderingUnavailableError, render_image

__all__ = [
    "RenderingError",
    "RenderingUnavailableError",
    "_format_shape",
    "_get_short_op_name",
    "_sanitize_label",
    "generate_op_distribution_pie",
    "ir_to_mermaid",
    "modules_to_mermaid",
    "render_image",
]
