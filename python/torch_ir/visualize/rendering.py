"""Renders Mermaid text as PNG and SVG, without a browser or a network."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from npu_base.errors import InvalidValueError

from torch_ir.errors import TorchIRError

FORMATS = (".png", ".svg")
INSTALL_HINT = 'pip install "npu-simulation[rendering]"'

_MAX_EDGES = 400  # the time for the layout is quadratic; this many take about a minute
_MAX_SIDE = 32_000  # pixels; the rasterizer fails with more
_SHARP_SIDE = 6_000  # pictures up to this size are drawn at double size, for sharp text
_EDGE = re.compile(r"-->|-\.->")
_VIEW_BOX = re.compile(r'viewBox="[-\d.e]+ [-\d.e]+ ([\d.e]+) ([\d.e]+)"')
_CONFIG: dict[str, Any] = {
    "maxEdges": _MAX_EDGES,
    "maxTextSize": 10_000_000,
    "fontFamily": "DejaVu Sans, Verdana, sans-serif",  # the second has the widths of the first
    # HTML labels, because text labels take ten times as long. Wrapping would break words.
    "flowchart": {
        "htmlLabels": True,
        "wrappingWidth": 700,
        "subGraphTitleMargin": {"top": 6, "bottom": 12},
    },
}


class RenderingError(TorchIRError):
    """Rendering failed."""


class RenderingUnavailableError(RenderingError):
    """The renderer is not installed."""


def render_image(mermaid: str, suffix: str) -> bytes:
    """The picture as ``.png`` or ``.svg``, or a RenderingError."""
    if suffix.lower() not in FORMATS:
        raise InvalidValueError(f"suffix must be one of {', '.join(FORMATS)}, got {suffix!r}")
    renderer = _load_renderer()
    edges = sum(len(_EDGE.findall(line)) for line in mermaid.splitlines())
    if edges > _MAX_EDGES:
        raise RenderingError(f"the graph has {edges} arrows, more than an image can have ({_MAX_EDGES})")
    try:
        diagram = renderer.render(mermaid, config=_CONFIG)
        svg: str = diagram.svg()
    except Exception as e:
        raise RenderingError(f"the renderer failed: {e}") from e
    # Mermaid draws an error as a picture instead of raising it.
    if 'aria-roledescription="error"' in svg:
        raise RenderingError("the renderer could not read the graph")
    return svg.encode("utf-8") if suffix.lower() == ".svg" else _png(diagram, svg)


def _png(diagram: Any, svg: str) -> bytes:
    match = _VIEW_BOX.search(svg)
    width, height = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    side = max(width, height)
    if side > _MAX_SIDE:
        raise RenderingError(
            f"the picture would be {width:.0f} by {height:.0f} pixels, "
            f"more than a PNG can hold ({_MAX_SIDE} a side); an SVG can"
        )
    try:
        png = diagram.png(scale=2.0 if side <= _SHARP_SIDE / 2 else 1.0, background="#ffffff")
    except Exception as e:
        raise RenderingError(f"the renderer failed: {e}") from e
    return bytes(png)


def _load_renderer() -> Any:
    try:
        return importlib.import_module("mermaidx")
    except ImportError as e:
        # Scripts look for `mmdc`, the former name of the renderer, in this message.
        raise RenderingUnavailableError(
            "image rendering requires the 'mmdc' package.\n"
            f"Its releases continue as 'mermaidx'; install it with: {INSTALL_HINT}"
        ) from e


def is_image(path: Path) -> bool:
    return path.suffix.lower() in FORMATS
