"""Multiplications and additions of the products among IR nodes; other nodes count as 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["flops_of"]

Shapes = list[list[int]]


def _product(inputs: Shapes, out: list[int]) -> float:
    return 2.0 * math.prod(out) * inputs[0][-1] if inputs[0] else 0.0


def _last_two(inputs: Shapes, out: list[int]) -> float:
    """For addmm and similar operators, whose addend comes first."""
    return _product(inputs[1:], out) if len(inputs) > 2 else 0.0


def _convolution(inputs: Shapes, out: list[int]) -> float:
    return 2.0 * math.prod(out) * math.prod(inputs[1][1:])


def _attention(inputs: Shapes, out: list[int]) -> float:
    return 2.0 * math.prod(out[:-1]) * inputs[1][-2] * (inputs[0][-1] + out[-1])


_RULES: dict[str, Callable[[Shapes, list[int]], float]] = {
    **dict.fromkeys(("linear", "matmul", "mm", "bmm", "mv", "dot", "linalg_matmul"), _product),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _last_two),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), _convolution),
    "scaled_dot_product_attention": _attention,
}


def flops_of(node: Mapping[str, Any]) -> float:
    """Of a node of an IR's JSON."""
    name = str(node["op_type"]).split(".")
    rule = _RULES.get(name[1]) if len(name) > 1 and name[0] == "aten" else None
    shapes = [list(t["shape"]) for t in node["inputs"]]
    if rule is None or len(shapes) < 2 or not node["outputs"]:
        return 0.0
    return rule(shapes, list(node["outputs"][0]["shape"]))
