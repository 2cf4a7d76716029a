"""The rules of docs/program-format.md, checked between passes."""

from __future__ import annotations

from .errors import VerifyError
from .exprs import class_of, classes_of
from .graph import Graph, Op, Value, View
from .opset import DTYPES, OPS, misfit

__all__ = ["verify"]


def verify(graph: Graph, after: str, checked: set[Op] | None = None) -> None:
    """``checked``: the ops that were found right earlier and need no second look by themselves, as ops do not
    change."""
    checked = set() if checked is None else checked
    given = {*graph.inputs, *graph.weights, *graph.constants}
    known = {*graph.weights, *graph.constants}
    left = _written(graph)
    for ops, more in ((graph.prepare, ()), (graph.main, graph.inputs)):
        known.update(more)
        for op in ops:
            try:
                if op not in checked:
                    _check_op(op)
                    checked.add(op)
                _check_reads(op, known, left)
                for view in op.writes():
                    left[view.value] -= view.elements
                    if view.value in given or left[view.value] < 0:
                        raise ValueError(f"'{view.value.name}' is written twice")
                    known.add(view.value)
            except ValueError as error:
                raise VerifyError(f"[compiler] after '{after}': op '{op.name}' ({op.kind}): {error}") from None
    for value, count in left.items():
        if count:
            raise VerifyError(f"[compiler] after '{after}': {count} elements of '{value.name}' are never written")
    names = [op.name for op in graph.prepare], [op.name for op in graph.main]
    if any(len(set(n)) != len(n) for n in names):
        raise VerifyError(f"[compiler] after '{after}': two ops have one name")
    written = {view.value for op in graph.main for view in op.writes()}
    for output in graph.outputs:
        if output.value not in written:
            raise VerifyError(f"[compiler] after '{after}': nothing in main writes the output '{output.name}'")


def _written(graph: Graph) -> dict[Value, int]:
    sizes: dict[Value, int] = {}
    for op in graph.ops():
        for view in op.writes():
            n = 1
            for extent in view.value.shape:
                n *= extent
            sizes[view.value] = n
    return sizes


def _check_reads(op: Op, known: set[Value], left: dict[Value, int]) -> None:
    for view in op.reads():
        if view.value not in known:
            raise ValueError(f"'{view.value.name}' is read before it is written")
        if left.get(view.value, 0):
            raise ValueError(f"'{view.value.name}' is read before all of it is written")


def _check_op(op: Op) -> None:
    rule = OPS[op.kind]
    fixed = [n for n in rule.inputs if not n.endswith("*")]
    if len(op.inputs) < len([n for n in fixed if not n.endswith("?")]):
        raise ValueError(f"{len(op.inputs)} inputs, expected {rule.inputs}")
    if len(op.inputs) > len(fixed) and len(fixed) == len(rule.inputs):
        raise ValueError(f"{len(op.inputs)} inputs, expected {rule.inputs}")
    for name, view in zip(fixed, op.inputs, strict=False):
        if view is None and not name.endswith("?"):
            raise ValueError(f"the input '{name}' is absent")
    if not 1 <= len(op.outputs) <= len(rule.outputs):
        raise ValueError(f"{len(op.outputs)} outputs, expected {rule.outputs}")
    if any(v is None and not name.endswith("?") for name, v in zip(rule.outputs, op.outputs, strict=False)):
        raise ValueError("a result that is not optional is absent")
    problem = misfit(rule, op.attrs)
    if problem:
        raise ValueError(problem)
    for view in (*op.reads(), *op.writes()):
        _check_view(view)
    if op.kind == "matmul" and len(op.inputs) > 2 and op.inputs[2] is not None:
        bias = op.inputs[2]
        if any(n > 1 and s for n, s in zip(bias.shape[:-1], bias.strides[:-1], strict=True)):
            raise ValueError("a bias that differs between rows")
    if op.kind == "map":
        _check_expression(op, [], list(op.reads()))
    elif op.attrs.get("epilogue"):
        sums = 2 if op.attrs.get("halves") else 1
        _check_expression(op, ["f"] * sums, [v for v in op.inputs[3:] if v is not None])


def _check_expression(op: Op, sums: list[str], operands: list[View]) -> None:
    steps = op.attrs["expr" if op.kind == "map" else "epilogue"]
    if any(view.shape != op.out.shape for view in operands):
        raise ValueError(f"operands {[list(v.shape) for v in operands]} for {list(op.out.shape)}")
    if classes_of(steps, [*sums, *(class_of(v.dtype) for v in operands)])[-1] != class_of(op.out.dtype):
        raise ValueError(f"the result's class does not fit {op.out.dtype}")


def _check_view(view: View) -> None:
    value = view.value
    if value.dtype not in DTYPES:
        raise ValueError(f"'{value.name}' has the dtype {value.dtype}")
    if len(value.shape) > 8 or view.rank > 8:
        raise ValueError(f"'{value.name}' has rank {max(len(value.shape), view.rank)}, above 8")
    if len(view.strides) != view.rank:
        raise ValueError(f"{view.rank} extents with {len(view.strides)} strides")
    if not view.elements:
        return
    low = high = view.offset
    for n, s in zip(view.shape, view.strides, strict=True):
        low, high = low + min(0, s * (n - 1)), high + max(0, s * (n - 1))
    size = 1
    for n in value.shape:
        size *= n
    if low < 0 or high >= size:
        raise ValueError(f"elements {low}..{high} of '{value.name}', which has {size}")
