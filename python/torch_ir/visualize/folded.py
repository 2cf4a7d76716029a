"""Draws a graph folded by module as Mermaid text, for graphs too large to draw every node."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from npu_base.errors import InvalidValueError
from npu_base.module_paths import split_call

from ..ir import check_ir
from .flowchart import arrow, first_shape, input_line, node_line, output_lines
from .labels import IdTable, _format_shape, _get_short_op_name, _sanitize_label, short_count
from .modules import Folding, ModuleTree, Unit
from .wiring import Origin, Wiring

if TYPE_CHECKING:
    from torch_ir.ir import IR, OpNode

_ENOUGH_BOXES = 4  # the automatic depth is the first with this many boxes


def modules_to_mermaid(
    ir: IR, depth: int | None = None, expand: Sequence[str] = (), max_boxes: int = 0, collapse: bool = True
) -> str:
    """A Mermaid flowchart with a box for every module call at ``depth``, and arrows for the tensors between them.

    By default, ``depth`` is the first one with several boxes. Modules named in ``expand``, which may contain ``*``, are
    drawn as their operators. Neighbours that differ only in their weights become one box, unless ``collapse`` is False.
    ``max_boxes`` limits the number of boxes; 0 means no limit.
    """
    check_ir(ir)
    if depth is not None and (not isinstance(depth, int) or depth < 1):
        raise InvalidValueError(f"depth must be 1 or more, got {depth!r}")
    if not isinstance(max_boxes, int) or max_boxes < 0:
        raise InvalidValueError(f"max_boxes must be 0 (all boxes) or more, got {max_boxes!r}")
    if ir.nodes and not any(n.module_path for n in ir.nodes):
        raise InvalidValueError(
            "this IR does not say which module each node belongs to, so it cannot be folded; "
            "extract the model again, or draw single nodes"
        )
    tree = ModuleTree(n.module_path or "" for n in ir.nodes)
    wiring = Wiring(ir)

    def fold(at: int, opened: Sequence[str]) -> list[Unit]:
        units = Folding(ir, tree, at, opened).units()
        return _Collapser(ir, wiring).collapse(units) if collapse else units

    if depth is None:
        deepest = max((len(tree.chain(n.module_path or "")) for n in ir.nodes), default=1)
        depth = next((at for at in range(1, deepest) if len(fold(at, ())) >= _ENOUGH_BOXES), max(deepest, 1))
    units = fold(depth, expand)
    return _Drawing(ir, wiring, units, max_boxes or len(units)).draw()


class _Collapser:
    """Merges neighbouring calls of the same structure, such as the layers of a decoder."""

    def __init__(self, ir: IR, wiring: Wiring) -> None:
        self.ir, self.wiring = ir, wiring

    def collapse(self, units: list[Unit]) -> list[Unit]:
        joined: list[Unit] = []
        previous: tuple[object, ...] | None = None
        for unit in units:
            signature = self._signature(unit) if unit.kind == "box" else None
            if signature is not None and signature == previous:
                joined[-1].nodes += unit.nodes
                joined[-1].members += unit.members
            else:
                joined.append(unit)
            previous = signature
        return joined

    def _signature(self, unit: Unit) -> tuple[object, ...]:
        nodes = [self.ir.nodes[i] for i in unit.nodes]
        index = {n.name: i for i, n in enumerate(nodes)}
        module = split_call(unit.key)[0]
        outside: dict[Origin, int] = {}
        body = tuple(self._node_signature(n, index, module, outside) for n in nodes)
        return (_family(module), unit.frame, body)

    def _node_signature(
        self, node: OpNode, index: dict[str, int], module: str, outside: dict[Origin, int]
    ) -> tuple[object, ...]:
        inputs = []
        for t in node.inputs:
            origin = self.wiring.origin(t)
            where: object
            if origin.kind == "weight":
                where = self.wiring.state_name(origin.name).removeprefix(module)
            elif origin.kind == "node" and origin.name in index:
                where = (index[origin.name], origin.output)
            else:
                # The position among tensors from outside, not the producer: only the first layer reads the embedding.
                where = outside.setdefault(origin, len(outside))
            inputs.append((where, t.shape, t.dtype))
        outputs = tuple((t.shape, t.dtype) for t in node.outputs)
        return (
            node.op_type,
            tuple(inputs),
            outputs,
            tuple(node.absent_inputs),
            repr(sorted(node.attrs.items())),
        )


def _family(module: str) -> str:
    head, dot, last = module.rpartition(".")
    return head + dot if last.isdigit() else module


class _Edge(NamedTuple):
    source: str
    target: str


class _Drawing:
    def __init__(self, ir: IR, wiring: Wiring, units: list[Unit], limit: int) -> None:
        self.ir, self.wiring = ir, wiring
        self.units = units[:limit]
        self.hidden = len(units) - len(self.units)
        self.ids = IdTable()
        self.unit_of = {ir.nodes[i].name: unit for unit in units for i in unit.nodes}
        self.drawn = {id(u) for u in self.units}
        self.leaving = self._leaving()

    def draw(self) -> str:
        lines = ["flowchart TD", *(input_line(self.ids, t) for t in self.ir.graph_inputs)]
        lines += self._boxes()
        lines += [arrow(edge.source, label, edge.target) for edge, label in self._edges().items()]
        for i, t in enumerate(self.ir.graph_outputs):
            origin = self.wiring.origin(t)
            if origin.kind == "weight":
                name = _sanitize_label(origin.name)
                lines.append(f'    {self.ids.get("w_", t.name)}[/"{name}<br/>{_format_shape(t.shape)}"/]')
            lines += output_lines(self.ids, i, t, self._source(origin))
        if self.hidden:
            lines.append(f'    note["... {self.hidden} more boxes ..."]')
        return "\n".join(lines)

    def _leaving(self) -> dict[int, dict[Origin, tuple[int, ...]]]:
        """For each unit, the tensors that are read outside of it."""
        leaving: dict[int, dict[Origin, tuple[int, ...]]] = {}
        reads = [(t, self.unit_of[n.name]) for n in self.ir.nodes for t in n.inputs]
        ends = [*self.ir.graph_outputs, *(m.value for m in self.ir.mutations)]
        for t, reader in [*reads, *((t, None) for t in ends)]:
            origin = self.wiring.origin(t)
            if origin.kind == "node":
                maker = self.unit_of[origin.name]
                if maker is not reader:
                    leaving.setdefault(id(maker), {})[origin] = t.shape
        return leaving

    def _boxes(self) -> list[str]:
        """Declarations of boxes, inside the subgraphs of unfolded modules."""
        lines: list[str] = []
        open_frames: list[str] = []
        for unit in self.units:
            common = 0
            for a, b in zip(open_frames, unit.frame, strict=False):
                if a != b:
                    break
                common += 1
            while len(open_frames) > common:
                open_frames.pop()
                lines.append("    " * (len(open_frames) + 1) + "end")
            for frame in unit.frame[common:]:
                inner = "    " * (len(open_frames) + 1)
                name = self.ids.get("sub_", f"{frame} {len(lines)}")
                lines.append(f'{inner}subgraph {name}["{_sanitize_label(frame)}"]')
                open_frames.append(frame)
            lines.append("    " * len(open_frames) + self._declaration(unit))
        lines += ["    " * n + "end" for n in range(len(open_frames), 0, -1)]
        return lines

    def _id(self, unit: Unit) -> str:
        if unit.kind == "op":
            return self.ids.get("op_", self.ir.nodes[unit.nodes[0]].name)
        first = self.ir.nodes[unit.nodes[0]].name
        return self.ids.get("run_", first) if unit.kind == "run" else self.ids.get("mod_", unit.key)

    def _declaration(self, unit: Unit) -> str:
        nodes = [self.ir.nodes[i] for i in unit.nodes]
        if unit.kind == "op":
            return node_line(self.ids, nodes[0])
        repeats = max(len(unit.members), 1)
        rows = [self._title(unit)]
        if repeats > 1:
            rows.append(f"{repeats} identical")
        each = " each" if repeats > 1 else ""
        rows += [_op_counts(nodes[: len(nodes) // repeats]) + each, self._shapes(unit)]
        parameters = self._parameters(nodes)
        if parameters:
            own = repeats > 1 and self._parameters(nodes[: len(nodes) // repeats]) * repeats == parameters
            rows.append(
                f"{short_count(parameters // repeats)} params each" if own else f"{short_count(parameters)} params"
            )
        label = "<br/>".join(_sanitize_label(row) for row in rows if row)
        return f'    {self._id(unit)}[["{label}"]]'

    def _title(self, unit: Unit) -> str:
        if unit.kind == "run":
            return f"{unit.key or self.ir.model_name or 'model'} (own ops)"
        inside = f"{split_call(unit.frame[-1])[0]}." if unit.frame else ""
        names = [m.removeprefix(inside) for m in unit.members]
        if len(names) == 1:
            return names[0]
        if split_call(names[0])[0] == split_call(names[-1])[0]:
            return f"{names[0]}, calls {split_call(names[0])[1] + 1} to {split_call(names[-1])[1] + 1}"
        return f"{names[0]} … {names[-1]}"

    def _shapes(self, unit: Unit) -> str:
        leaving = self.leaving.get(id(unit), {})
        if not leaving:
            return first_shape(self.ir.nodes[unit.nodes[-1]].outputs)
        shapes = [_format_shape(s) for s in leaving.values()]
        if len(set(shapes)) == 1:
            return shapes[0] if len(shapes) == 1 else f"{len(shapes)} outputs of {shapes[0]}"
        return " and ".join(shapes) if len(shapes) == 2 else f"{len(shapes)} outputs"

    def _parameters(self, nodes: list[OpNode]) -> int:
        names = {self.wiring.state_name(t.name) for n in nodes for t in n.inputs}
        return sum(math.prod(self.wiring.weights[name].shape) for name in names if name in self.wiring.weights)

    def _source(self, origin: Origin) -> str:
        if origin.kind != "node":
            return self.ids.get("input_" if origin.kind == "input" else "w_", origin.name)
        unit = self.unit_of[origin.name]
        return self._id(unit) if id(unit) in self.drawn else "note"

    def _edges(self) -> dict[_Edge, str]:
        tensors: dict[_Edge, dict[Origin, tuple[int, ...]]] = {}
        for unit in self.units:
            for i in unit.nodes:
                for t in self.ir.nodes[i].inputs:
                    origin = self.wiring.origin(t)
                    if origin.kind == "weight" or (origin.kind == "node" and self.unit_of[origin.name] is unit):
                        continue
                    edge = _Edge(self._source(origin), self._id(unit))
                    tensors.setdefault(edge, {})[origin] = t.shape
        return {
            edge: _format_shape(next(iter(crossing.values()))) if len(crossing) == 1 else f"{len(crossing)} tensors"
            for edge, crossing in tensors.items()
        }


def _op_counts(nodes: list[OpNode]) -> str:
    ranked = Counter(_get_short_op_name(n.op_type) for n in nodes).most_common()
    if len(nodes) == 1:
        return ranked[0][0]
    kinds = ", ".join(f"{name} {n}" for name, n in ranked[:3])
    return f"{len(nodes)} ops: {kinds}{', …' if len(ranked) > 3 else ''}"
