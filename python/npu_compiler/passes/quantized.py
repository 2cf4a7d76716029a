"""Products and lookups read quantised weights as they are stored.

A ``dequantize`` of a weight, read by a product as its transposed right side, becomes part of the product; rows that are
gathered from it are dequantised after they are gathered. A product with a weight whose columns are stored in another
order takes the columns of its left side in that order. What else reads it reads its numbers, which ``prepare``
computes once.
"""

from __future__ import annotations

from ..graph import Graph, Op, View, same, whole
from ..ops.gather import along_axis
from .integer_products import integer_products
from .simplify import changing_values

PRODUCT_BITS = (4, 6, 8)
"""Those whose products have kernels that are faster than products of the dequantised weight."""


def quantized_products(graph: Graph) -> None:
    integer_products(graph)
    changing = changing_values(graph)
    for op in graph.main:
        stored = not any(view.value in changing for view in op.reads())
        if op.kind != "dequantize" or not op.out.is_whole or not stored:
            continue
        for reader in graph.readers(op.out.value):
            if reader.kind == "matmul":
                _join_product(graph, op, op.out, product=reader)
            elif reader.kind == "gather":
                _gather_stored(graph, op, reader)
            elif reader.kind == "scatter" and reader.inputs[:2] == (op.out, op.out) and reader.out.is_whole:
                for product in graph.readers(reader.out.value):
                    if product.kind == "matmul":
                        _join_product(graph, op, reader.out, order=reader.inputs[2], product=product)
                _remove_unread(graph, reader)
        _remove_unread(graph, op)


def _remove_unread(graph: Graph, op: Op) -> None:
    """So that its operands have one reader less."""
    if not graph.readers(op.out.value) and not graph.is_output(op.out.value):
        graph.remove(op)


def _join_product(graph: Graph, op: Op, weight: View, *, product: Op, order: View | None = None) -> None:
    """``weight`` is what the product reads of the result of ``op``, whose columns ``order`` moves."""
    a, b = product.inputs[0], product.inputs[1]
    if a is None or b is None or a.value is weight.value or weight.rank != 2 or op.attrs["bits"] not in PRODUCT_BITS:
        return
    if product.attrs.get("bits") or not weight.elements or b.rank < 2:
        return
    shared = View(b.value, b.shape[-2:], b.strides[-2:], b.offset)
    batches = zip(b.shape[:-2], b.strides[:-2], strict=True)
    if any(n > 1 and step for n, step in batches) or not same(shared, weight.transpose(0, 1)):
        return
    if order is not None:
        a = _in_order(graph, a, View(order.value, a.shape, (*[0] * (a.rank - 1), 1), 0), product)
    bias = product.inputs[2] if len(product.inputs) > 2 else None
    inputs = (a, op.inputs[0], bias, *op.inputs[1:], *[None] * (4 - len(op.inputs)), *product.inputs[6:])
    graph.change(product, inputs=inputs, attrs={**product.attrs, **op.attrs})


def _in_order(graph: Graph, a: View, order: View, product: Op) -> View:
    """The columns of the left side as those of the weight are stored. Products share them."""
    attrs = along_axis(a, a.rank - 1)
    for op in graph.readers(a.value):
        if op.kind == "gather" and op.inputs == (a, order) and op.attrs == attrs and op.out.is_whole:
            if graph.position(op) > graph.position(product):
                graph.move(op, before=product)
            return op.out
    ordered = whole(graph.temp(f"{a.value.name}.ordered", a.dtype, a.shape))
    name = graph.unique(ordered.value.name)
    graph.insert(Op("gather", name, (a, order), (ordered,), attrs, product.nodes, product.module), before=product)
    return ordered


def _gather_stored(graph: Graph, op: Op, gather: Op) -> None:
    """A gather of whole rows of a weight, as embeddings are."""
    x, out, dims = gather.inputs[0], gather.out, gather.attrs["dims"]
    if x is None or not x.is_whole or x.value is not op.out.value or not out.is_whole or out.rank < 1:
        return
    indices = gather.inputs[1:]
    last = out.rank - 1
    if any(v is None or v.value is x.value or (v.shape[-1] > 1 and v.strides[-1]) for v in indices):
        return
    if dims[-1] != last or last in dims[:-1] or out.shape[-1] != x.shape[-1]:
        return
    rows: list[View | None] = []
    for part in op.inputs:
        if part is None:
            rows.append(None)
            continue
        width = part.shape[-1]
        chosen = whole(graph.temp(f"{part.value.name}.rows", part.dtype, (*out.shape[:-1], width)))
        each = [View(v.value, chosen.shape, (*v.strides[:-1], 0), v.offset) for v in indices if v is not None]
        name = graph.unique(chosen.value.name)
        graph.insert(
            Op("gather", name, (part, *each), (chosen,), gather.attrs, gather.nodes, gather.module), before=gather
        )
        rows.append(chosen)
    graph.change(gather, kind="dequantize", inputs=rows, attrs=op.attrs)
