"""Products of weights that are integers, which a model converts to floats: it reads them as they are stored.

matmul(x, float(q)) * scale     becomes a product of the weight ``scale * q``
matmul(x, float(q))             has scales of 1
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ..exprs import Expression, class_of
from ..graph import Graph, Op, Value, View, nodes_of, remap, same, whole
from ..patterns import Match, Pattern, Rule, rewrite
from .batch_norm import fixed_values
from .simplify import cse

SCALED = Pattern("alone(rounded(matmul(x, weight))) * scale")


def integer_products(graph: Graph) -> None:
    """Writes the weights of such products as ``dequantize``."""
    if not any(weight.dtype in ("int8", "uint8") for weight in graph.weights):
        return
    fixed = fixed_values(graph)

    def scaled(m: Match) -> Op | None:
        product, out, scale = m.op("matmul"), m.root.out, m["scale"]
        integers = _integers(graph, product, fixed)
        if integers is None or out.dtype != product.out.dtype or scale.value not in fixed or not out.is_whole:
            return None
        columns = integers.shape[0]
        if (
            out.shape != product.out.shape
            or scale.shape[-1] != columns
            or any(n > 1 and step for n, step in zip(scale.shape[:-1], scale.strides[:-1], strict=True))
        ):
            return None
        each = View(scale.value, (columns, 1), (scale.strides[-1], 0), scale.offset)
        weight = _numbers(graph, product, integers, each, m.root)
        inputs = (product.inputs[0], weight)
        return Op("matmul", product.name, inputs, (out,), product.attrs, nodes_of(product, m.root), product.module)

    changed = bool(rewrite(graph, [Rule(SCALED, scaled)]))
    for product in list(graph.main):
        integers = _integers(graph, product, fixed) if product.kind == "matmul" else None
        if integers is not None:
            one = Value(graph.unique(f"{product.name}.one"), "float32", (1, 1), "constant", np.ones((1, 1), np.float32))
            graph.constants.append(one)
            scales = whole(one).expand((integers.shape[0], 1))
            weight = _numbers(graph, product, integers, scales, product)
            graph.change(product, inputs=(product.inputs[0], weight, *product.inputs[2:]))
            changed = True
    if changed:
        cse(graph)  # the bytes of a weight that several products read


def _integers(graph: Graph, product: Op, fixed: Collection[Value]) -> View | None:
    """The weight of bytes ``[columns, depth]`` whose conversion to floats is the right side of the product."""
    b = product.inputs[1]
    maker = graph.dense_maker(b)
    if b is None or b.rank != 2 or maker is None or maker.kind != "map" or product.attrs.get("bits"):
        return None
    if class_of(b.dtype) != "f":
        return None
    steps, operand = maker.attrs["expr"], maker.inputs[0]
    if len(steps) != 2 or steps[0][0] != "in" or steps[1][0] != "cast" or operand is None:
        return None
    if operand.dtype not in ("int8", "uint8") or operand.value not in fixed or not operand.elements:
        return None
    inner = remap(b, operand)
    columns = None if inner is None else inner.transpose(0, 1)
    if columns is None or not columns.is_dense or not same(columns, whole(columns.value)):
        return None
    return columns


def _numbers(graph: Graph, product: Op, integers: View, scales: View, before: Op) -> View:
    """The right side of the product as a weight that is dequantised."""
    signed, name = integers.dtype == "int8", f"{product.name}.weight"
    if signed:
        stored = whole(graph.temp(f"{name}.bytes", "uint8", integers.shape))  # the same bits
        expr = Expression()
        steps = expr.finish(expr.cast(expr.load(0, "i"), "uint8"))
        graph.insert(Op("map", graph.unique(f"{name}.bytes"), (integers,), (stored,), {"expr": steps}), before=before)
        integers = stored
    b = product.inputs[1]
    assert b is not None
    numbers = whole(graph.temp(name, b.dtype, integers.shape))
    attrs = {"bits": 8, "group": 0, "offset": "none", "signed_integers": signed}
    graph.insert(
        Op("dequantize", graph.unique(name), (integers, scales), (numbers,), attrs, product.nodes, product.module),
        before=before,
    )
    return numbers.transpose(0, 1)
