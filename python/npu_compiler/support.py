"""Answers what compiles, by lowering it and discarding the result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from npu_base.argument_types import IRSource
from npu_base.errors import InvalidTypeError

from . import ops as _ops  # noqa: F401  (registers the lowerings)
from .compiler import Translation, explained
from .errors import MISFIT, IRError, Refused, Unsupported
from .graph import Graph, Value, whole
from .lowering import GETITEM, LOWERINGS, Builder, Lowering, lower_node
from .opset import DTYPES
from .reader import Meta, Node, load_ir, malformed, read_ir, read_node

__all__ = ["explain_ir", "explain_support", "get_supported_ops", "is_op_supported"]


def get_supported_ops() -> frozenset[str]:
    """The operators that have a lowering. Whether a node compiles also depends on its attributes, shapes and dtypes."""
    return frozenset(LOWERINGS) | {GETITEM}


def explain_support(node: Mapping[str, Any] | Node, unread: Sequence[int] | None = None) -> str | None:
    """Why this node does not compile with its attributes, shapes and dtypes, or None if it does. ``unread`` are the
    numbers of its results that nobody reads.

    Raises:
        IRError: the node is malformed.
    """
    if not isinstance(node, Node):
        node = _record_of(node)
        try:
            node = read_node(node, 2 if "absent_inputs" in node or "module_path" in node else 1)
        except IRError as error:
            return str(error).removeprefix("[compiler] ")
    for meta in (*node.inputs, *node.outputs):
        if meta.dtype not in DTYPES:
            return f"dtype {meta.dtype}"
    try:
        results = _dry_run(node)
    except Unsupported as error:
        return explained(error)
    except MISFIT as error:
        return f"its arguments do not match the operator's schema ({type(error).__name__}: {error})"
    lost = [i for i, view in enumerate(results) if view is None and unread is not None and i not in unread]
    return f"its lowering does not compute result {lost[0]}" if lost else None


def _record_of(node: Any) -> Mapping[str, Any]:
    """A node of an IR as its dict."""
    record = node.to_dict() if callable(getattr(node, "to_dict", None)) and hasattr(node, "op_type") else node
    if isinstance(record, Mapping):
        return record
    hint = "; try explain_ir for all nodes of an IR" if hasattr(node, "graph_inputs") or isinstance(node, str) else ""
    raise InvalidTypeError(
        f"[compiler] this is not a node; got {type(node).__name__}; expected a node of an IR or its dict{hint}"
    )


def explain_ir(ir: IRSource) -> list[tuple[dict[str, Any], str | None]]:
    """Each node of an IR with the reason why it does not compile, or None, exactly as ``compile`` decides.

    Raises:
        IRError: the IR is malformed.
    """
    data = load_ir(ir)
    translation = Translation(read_ir(data))
    translation.lower()
    reasons = {node.name: reason for node, reason in translation.failures}
    return [(node, reasons.get(node["name"])) for node in data["nodes"]]


def results_of(ir: Mapping[str, Any]) -> set[str]:
    """The names of the graph's outputs and of the new values of inputs that it updates."""
    return {t["name"] for t in [*ir.get("graph_outputs", []), *(m["value"] for m in ir.get("mutations") or [])]}


def check_outline(ir: Mapping[str, Any]) -> None:
    """Checks what partitioning needs of an IR: nodes and tensors with names."""
    with malformed("the graph"):
        results = results_of(ir)
        if not isinstance(ir["nodes"], list) or not all(isinstance(name, str) for name in results):
            raise TypeError("its nodes are not a list, or an output has no name")
        for node in ir["nodes"]:
            with malformed(f"node {node.get('name')!r:.60}"):
                if not isinstance(node["name"], str) or not isinstance(node["op_type"], str):
                    raise TypeError("its name and op_type are not both strings")
                if not isinstance(node.get("attrs") or {}, Mapping):
                    raise TypeError("its attrs are not an object")
                node_reads(node)
                if not all(isinstance(t["name"], str) for t in [*node["inputs"], *node["outputs"]]):
                    raise TypeError("one of its tensors has no name")


def node_reads(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tensors that the node reads: ``getitem`` lists all results and reads one."""
    inputs: list[dict[str, Any]] = node["inputs"]
    return [inputs[node["attrs"]["index"]]] if node["op_type"] == GETITEM else inputs


def _dry_run(node: Node) -> list[Any]:
    graph = Graph("probe")
    views = [whole(Value(graph.unique(m.name), m.dtype, m.shape, "input")) for m in node.inputs]
    return lower_node(Builder(graph), node, views)


def is_op_supported(op_type: str, attrs: Mapping[str, Any] | None = None) -> bool:
    """Whether ``op_type`` compiles with these attributes for some inputs."""
    if not isinstance(op_type, str) or not isinstance(attrs, Mapping | None):
        got = f"{type(op_type).__name__} and {type(attrs).__name__}"
        expected = 'a string such as "aten.add.Tensor", and a dict of attributes or None'
        raise InvalidTypeError(f"[compiler] op_type or attrs has the wrong type; got {got}; expected {expected}")
    if op_type == GETITEM:
        return True
    rule = LOWERINGS.get(op_type)
    if rule is None:
        return False
    refused = False
    for metas in _probes(rule, dict(attrs or {})):
        record = {"name": "probe", "op_type": op_type, "inputs": [], "outputs": [], "attrs": dict(attrs or {})}
        node = read_node(record, 2)
        node.inputs, node.outputs = metas, None  # type: ignore[assignment]
        node.absent = frozenset(p.name for p in rule.parameters if p.optional_tensor)
        node.attrs.setdefault("_tensor_list_sizes", [len(metas)])
        try:
            _dry_run(node)
            return True
        except Refused:
            refused = True
        except (Unsupported, *MISFIT):
            continue
    # No probe compiles. The attributes may fit only shapes that are not among the probes, unless they were refused.
    return not refused


def _probes(rule: Lowering, attrs: dict[str, Any]) -> Iterator[list[Meta]]:
    tensors = [
        p for p in rule.parameters if p.kind != "attr" and p.name not in attrs and not p.optional_tensor and p.required
    ]
    count = len(tensors) + (len((attrs.get("_tensor_list_none_masks") or [[]])[0]))
    if any(p.kind == "tensors" for p in tensors):
        count = sum(attrs.get("_tensor_list_sizes") or [2])
    size = attrs.get("size") or attrs.get("shape")
    shapes: list[tuple[int, ...]] = [
        (2, 4, 6, 6),
        (4, 6, 6),
        (6, 6),
        (2, 4, 6, 6, 6),
        (6,),
        (1, 1, 1, 1),
        (1, 4, 16, 16),
        (),
    ]
    if isinstance(size, list) and size and -1 not in size:
        shapes.insert(0, (math.prod(size),))
    for shape in shapes:
        for kinds in (
            ("float32", "float32"),
            ("float32", "int64"),
            ("int64", "int64"),
            ("bool", "float32"),
            ("bool", "bool"),
        ):
            yield [_meta(i, kinds[0] if i == 0 else kinds[1], shape) for i in range(count)]
    groups = int(attrs.get("groups", 1) or 1)
    for n in (2, 1, 3):  # convolutions, and products with a weight
        x = _meta(0, "float32", (1, 4 * groups, *[16] * n))
        yield [x, *[_meta(1, "float32", (4 * groups, 4, *[1] * n))] * (count - 1)]
        yield [x, *[_meta(1, "float32", (4 * groups, 1, *[3] * n))] * (count - 1)]


def _meta(i: int, dtype: str, shape: tuple[int, ...]) -> Meta:
    return Meta(f"x{i}", shape, dtype)
