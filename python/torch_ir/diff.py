"""Compares two graphs, regardless of the names of their nodes."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._encoding import encode_attr, encode_constant
from .ir import IR, OpNode, TensorMeta
from .visualize.wiring import Origin, Wiring


@dataclass
class NodeChange:
    """A node of both graphs, its two names, and its differences."""

    left: str
    right: str
    changes: list[str]


@dataclass
class IRDiff:
    """Empty if the graphs agree. ``renamed`` nodes differ only in their names, which does not count."""

    metadata: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    weights_added: list[str] = field(default_factory=list)
    weights_removed: list[str] = field(default_factory=list)
    weights_changed: list[str] = field(default_factory=list)
    nodes_added: list[str] = field(default_factory=list)
    nodes_removed: list[str] = field(default_factory=list)
    nodes_changed: list[NodeChange] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    ops: dict[str, tuple[int, int]] = field(default_factory=dict)
    renamed: int = 0

    @property
    def is_same(self) -> bool:
        return not any(v for k, v in vars(self).items() if k != "renamed")

    def to_dict(self) -> dict[str, Any]:
        d: dict[str, Any] = {"same": self.is_same, **vars(self)}
        d["nodes_changed"] = [vars(c) for c in self.nodes_changed]
        d["ops"] = {op: {"left": a, "right": b} for op, (a, b) in self.ops.items()}
        return d


def diff_ir(left: IR, right: IR) -> IRDiff:
    """Compare the metadata, inputs, outputs, weights and nodes of two graphs.

    Nodes are matched in order by operator and result, so an inserted or removed node does not make all following
    nodes differ. Source lines are not compared.
    """
    result = IRDiff()
    for name in ("model_name", "pytorch_version"):
        a, b = getattr(left, name), getattr(right, name)
        if a != b:
            result.metadata.append(f"{name}: {a!r} -> {b!r}")
    for what, sizes in (
        ("open sizes", [list(map(str, ir.sizes)) for ir in (left, right)]),
        ("conditions", [ir.conditions for ir in (left, right)]),
    ):
        if sizes[0] != sizes[1]:
            result.metadata.append(f"{what}: {', '.join(sizes[0]) or 'none'} -> {', '.join(sizes[1]) or 'none'}")
    _ports(result.inputs, left.graph_inputs, right.graph_inputs, "input")
    _weights(result, left, right)
    _Nodes(result, left, right).compare()
    _other(result.other, left, right)
    a_ops, b_ops = (Counter(n.op_type for n in ir.nodes) for ir in (left, right))
    result.ops = {op: (a_ops[op], b_ops[op]) for op in sorted(a_ops | b_ops) if a_ops[op] != b_ops[op]}
    return result


def _meta(t: TensorMeta) -> str:
    return f"{t.dtype} {list(t.shape)}"


def _ports(out: list[str], left: Sequence[TensorMeta], right: Sequence[TensorMeta], what: str) -> None:
    for i in range(max(len(left), len(right))):
        a = left[i] if i < len(left) else None
        b = right[i] if i < len(right) else None
        if a is None and b is not None:
            out.append(f"{what} {i} added: {b.name} {_meta(b)}")
        elif b is None and a is not None:
            out.append(f"{what} {i} removed: {a.name} {_meta(a)}")
        elif a is not None and b is not None:
            if what == "input" and a.name != b.name:
                out.append(f"{what} {i} name: {a.name} -> {b.name}")
            if _meta(a) != _meta(b):
                out.append(f"{what} {i} ({a.name}): {_meta(a)} -> {_meta(b)}")


def _weights(result: IRDiff, left: IR, right: IR) -> None:
    a, b = {t.name: t for t in left.weights}, {t.name: t for t in right.weights}
    result.weights_removed = [f"{n} {_meta(t)}" for n, t in a.items() if n not in b]
    result.weights_added = [f"{n} {_meta(t)}" for n, t in b.items() if n not in a]
    result.weights_changed = [
        f"{n}: {_meta(t)} -> {_meta(b[n])}" for n, t in a.items() if n in b and _meta(t) != _meta(b[n])
    ]


def _other(out: list[str], left: IR, right: IR) -> None:
    for name in sorted({*left.constants, *right.constants}):
        if name not in right.constants or name not in left.constants:
            out.append(f"constant '{name}' {'removed' if name in left.constants else 'added'}")
        elif encode_constant(left.constants[name], name) != encode_constant(right.constants[name], name):
            out.append(f"constant '{name}' has other values")
    for alias in sorted({*left.ties, *right.ties}):
        a, b = left.ties.get(alias), right.ties.get(alias)
        if a != b:
            out.append(f"tie of '{alias}': {a or 'none'} -> {b or 'none'}")
    a_written, b_written = ({f"{m.kind} '{m.target}'" for m in ir.mutations} for ir in (left, right))
    out += [f"no longer writes {w}" for w in sorted(a_written - b_written)]
    out += [f"now writes {w}" for w in sorted(b_written - a_written)]
    for field_name in ("output_names", "input_structure", "output_structure"):
        if getattr(left, field_name) != getattr(right, field_name):
            out.append(f"{field_name} differs")
    for name in sorted({*left.subgraphs, *right.subgraphs}):
        if name not in right.subgraphs or name not in left.subgraphs:
            out.append(f"subgraph '{name}' {'removed' if name in left.subgraphs else 'added'}")
        elif not diff_ir(left.subgraphs[name], right.subgraphs[name]).is_same:
            out.append(f"subgraph '{name}' differs")


class _Nodes:
    def __init__(self, result: IRDiff, left: IR, right: IR) -> None:
        self.result, self.left, self.right = result, left, right
        self.a_wiring, self.b_wiring = Wiring(left), Wiring(right)
        # By position, so that a renamed input is reported once and not at every reader.
        self.a_place, self.b_place = ({t.name: i for i, t in enumerate(ir.graph_inputs)} for ir in (left, right))
        self.partner: dict[str, str] = {}

    def compare(self) -> None:
        pairs, removed, added = self._align()
        self.partner = {a.name: b.name for a, b in pairs}
        self.result.nodes_removed = [_describe(n) for n in removed]
        self.result.nodes_added = [_describe(n) for n in added]
        for a, b in pairs:
            changes = self._changes(a, b)
            if changes:
                self.result.nodes_changed.append(NodeChange(a.name, b.name, changes))
            elif a.name != b.name:
                self.result.renamed += 1
        self._outputs()

    def _align(self) -> tuple[list[tuple[OpNode, OpNode]], list[OpNode], list[OpNode]]:
        """Match nodes of the same operator and result in order, then, in each gap, nodes of the same operator."""
        pairs: list[tuple[OpNode, OpNode]] = []
        removed: list[OpNode] = []
        added: list[OpNode] = []
        for tag, a, b in _blocks(self.left.nodes, self.right.nodes, _signature):
            if tag == "equal":
                pairs += zip(a, b, strict=True)
                continue
            for inner, x, y in _blocks(a, b, lambda n: (n.op_type, n.module_path)):
                if inner == "equal" or (inner == "replace" and len(x) == len(y) == 1):
                    pairs += zip(x, y, strict=True)
                else:
                    removed += x
                    added += y
        return pairs, removed, added

    def _changes(self, a: OpNode, b: OpNode) -> list[str]:
        changes = []
        if a.op_type != b.op_type:
            changes.append(f"op: {a.op_type} -> {b.op_type}")
        if a.module_path != b.module_path:
            changes.append(f"module: {a.module_path} -> {b.module_path}")
        if a.absent_inputs != b.absent_inputs:
            changes.append(f"absent inputs: {a.absent_inputs} -> {b.absent_inputs}")
        changes += _attr_changes(a, b)
        outputs = [[_meta(t) for t in n.outputs] for n in (a, b)]
        if outputs[0] != outputs[1]:
            changes.append(f"outputs: {', '.join(outputs[0])} -> {', '.join(outputs[1])}")
        if len(a.inputs) != len(b.inputs):
            changes.append(f"number of inputs: {len(a.inputs)} -> {len(b.inputs)}")
        for i, (x, y) in enumerate(zip(a.inputs, b.inputs, strict=False)):
            changes += [f"input {i} {c}" for c in self._input_changes(x, y)]
        return changes

    def _input_changes(self, a: TensorMeta, b: TensorMeta) -> list[str]:
        changes = []
        x, y = self.a_wiring.origin(a), self.b_wiring.origin(b)
        if self._in_right(x) != self._named(y):
            changes.append(f"from: {_label(self.a_wiring, x)} -> {_label(self.b_wiring, y)}")
        if _meta(a) != _meta(b):
            changes.append(f"is: {_meta(a)} -> {_meta(b)}")
        return changes

    def _in_right(self, origin: Origin) -> tuple[object, ...]:
        """The right graph's name for a tensor of the left one."""
        if origin.kind == "node":
            return ("node", self.partner.get(origin.name), origin.output)
        if origin.kind == "input":
            return ("input", self.a_place[origin.name])
        return ("weight", self.a_wiring.state_name(origin.name))

    def _named(self, origin: Origin) -> tuple[object, ...]:
        if origin.kind == "node":
            return ("node", origin.name, origin.output)
        if origin.kind == "input":
            return ("input", self.b_place[origin.name])
        return ("weight", self.b_wiring.state_name(origin.name))

    def _outputs(self) -> None:
        left, right = self.left.graph_outputs, self.right.graph_outputs
        _ports(self.result.outputs, left, right, "output")
        for i, (a, b) in enumerate(zip(left, right, strict=False)):
            x, y = self.a_wiring.origin(a), self.b_wiring.origin(b)
            if self._in_right(x) != self._named(y):
                self.result.outputs.append(f"output {i} from: {_label(self.a_wiring, x)} -> {_label(self.b_wiring, y)}")


def _blocks(
    left: Sequence[OpNode], right: Sequence[OpNode], key: Any
) -> list[tuple[str, Sequence[OpNode], Sequence[OpNode]]]:
    a: list[Hashable] = [key(n) for n in left]
    b: list[Hashable] = [key(n) for n in right]
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    return [(tag, left[i:j], right[k:m]) for tag, i, j, k, m in matcher.get_opcodes()]


def _signature(node: OpNode) -> Hashable:
    return (node.op_type, node.module_path, tuple((t.shape, t.dtype) for t in node.outputs))


def _attr_changes(a: OpNode, b: OpNode) -> list[str]:
    changes = []
    for key in sorted({*a.attrs, *b.attrs}):
        # Compared as JSON, because == of tensors in attributes is not a bool.
        x, y = (encode_attr(n.attrs[key], key) if key in n.attrs else None for n in (a, b))
        if x != y or (key in a.attrs) != (key in b.attrs):
            values = [repr(n.attrs[key]) if key in n.attrs else "(not there)" for n in (a, b)]
            changes.append(f"attr {key}: {values[0]} -> {values[1]}")
    return changes


def _describe(node: OpNode) -> str:
    shapes = ", ".join(_meta(t) for t in node.outputs)
    location = f" in {node.module_path}" if node.module_path else ""
    return f"{node.name} ({node.op_type}) {shapes}{location}".rstrip()


def _label(wiring: Wiring, origin: Origin) -> str:
    if origin.kind == "weight":
        return f"weight {wiring.state_name(origin.name)}"
    index = f"[{origin.output}]" if origin.output else ""
    return f"{origin.kind} {origin.name}{index}"
