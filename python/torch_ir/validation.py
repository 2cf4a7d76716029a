"""Validates an IR, and reports all errors at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from npu_base.sizes import Size, free_names, is_name

from ._encoding import DTYPES
from .errors import SerializationError
from .ir import IR, OpNode, TensorMeta


def validate_ir(ir: IR) -> bool:
    """True, or raises a SerializationError that lists every error.

    Raises:
        SerializationError: the IR is not consistent.
    """
    if not isinstance(ir, IR):
        raise SerializationError(f"Expected an IR, got {type(ir).__name__}")
    errors = _Validator(ir).run()
    if errors:
        lines = "\n".join(f"  - {e}" for e in errors)
        raise SerializationError(f"IR validation failed with {len(errors)} errors:\n{lines}")
    return True


class _Validator:
    def __init__(self, ir: IR, where: str = "", sizes: frozenset[str] = frozenset()) -> None:
        self.ir = ir
        self.sizes = sizes | {s.name for s in ir.sizes}
        self.where = where
        self.errors: list[str] = []

    def run(self) -> list[str]:
        ir = self.ir
        self._check_metas(ir.graph_inputs, "graph input")
        self._check_metas(ir.graph_outputs, "graph output")
        self._check_metas(ir.weights, "weight")
        self._check_unique([t.name for t in ir.graph_inputs], "graph input")
        self._check_unique([t.name for t in ir.weights], "weight")
        self._check_unique([n.name for n in ir.nodes if n.name], "node")
        self._check_sizes()
        self._check_weights()
        self._check_nodes()
        self._check_ends()
        for name, body in ir.subgraphs.items():
            self.errors.extend(_Validator(body, f"subgraph '{name}': ", frozenset(self.sizes)).run())
        return self.errors

    def _error(self, text: str) -> None:
        self.errors.append(self.where + text)

    def _check_unique(self, names: list[str], what: str) -> None:
        seen: set[str] = set()
        for name in names:
            if name in seen:
                self._error(f"Duplicate {what} name '{name}'")
            seen.add(name)

    def _check_metas(self, metas: Iterable[TensorMeta], what: str) -> None:
        for i, t in enumerate(metas):
            label = f"{what} '{t.name}'" if t.name else f"{what} {i}"
            if not isinstance(t.name, str) or not t.name:
                self._error(f"{what} {i} has no name")
            self._check_shape(t.shape, label)
            if not t.dtype:
                self._error(f"{label} has no dtype")
            elif not isinstance(t.dtype, str) or t.dtype not in DTYPES:
                self._error(f"{label}: unknown dtype {t.dtype!r}")

    def _check_shape(self, shape: Any, label: str) -> None:
        kinds = (int, Size) if self.sizes else (int,)
        if not isinstance(shape, (tuple, list)) or any(type(s) not in kinds for s in shape):
            self._error(f"{label}: shape must be a list of integers, got {shape!r}")
        elif any(isinstance(s, int) and s < 0 for s in shape):
            self._error(f"{label}: negative size in shape {list(shape)}")
        elif unknown := {n for s in shape if isinstance(s, Size) for n in free_names(s.text)} - self.sizes:
            self._error(f"{label}: the shape {list(shape)} reads unknown sizes {sorted(unknown)}")

    def _check_sizes(self) -> None:
        self._check_unique([s.name for s in self.ir.sizes], "size")
        for size in self.ir.sizes:
            if not is_name(size.name):
                self._error(f"size {size.name!r} is not a name")
            if size.least < 0 or (size.most is not None and size.most < size.least):
                self._error(f"size '{size.name}' has the range {size.least} to {size.most}")
        for condition in self.ir.conditions:
            if unknown := free_names(condition) - self.sizes:
                self._error(f"condition '{condition}' reads unknown sizes {sorted(unknown)}")

    def _check_weights(self) -> None:
        known = {t.name for t in self.ir.weights}
        for placeholder, name in self.ir.weight_name_mapping.items():
            if name not in known:
                self._error(f"weight_name_mapping: '{placeholder}' maps to unknown weight '{name}'")
        for alias, name in self.ir.ties.items():
            if name not in known:
                self._error(f"ties: '{alias}' is tied to unknown weight '{name}'")
        shapes = {t.name: t for t in self.ir.weights}
        for name, value in self.ir.constants.items():
            weight = shapes.get(name)
            if weight is not None and tuple(value.shape) != tuple(weight.shape):
                self._error(f"constant '{name}' has shape {list(value.shape)}, its weight entry {list(weight.shape)}")

    def _check_nodes(self) -> None:
        ir = self.ir
        self.inputs = {t.name: t for t in ir.graph_inputs}
        self.weights = {t.name for t in ir.weights} | set(ir.weight_name_mapping) | set(ir.constants)
        positions = {n.name: i for i, n in enumerate(ir.nodes)}
        self.outputs_of = {n.name: n.outputs for n in ir.nodes}
        for i, node in enumerate(ir.nodes):
            label = f"node '{node.name}'" if node.name else f"node {i}"
            if not node.name:
                self._error(f"Node {i} has no name")
            if not node.op_type:
                self._error(f"{label} has no op_type")
            self._check_metas(node.inputs, f"{label}: input")
            self._check_metas(node.outputs, f"{label}: output")
            for t in node.inputs:
                self._check_source(t, label, i, positions)
            self._check_bodies(node, label)

    def _check_source(self, t: TensorMeta, label: str, position: int, positions: dict[str, int]) -> None:
        if t.producer_node is None:
            if t.name not in self.weights and t.name not in self.inputs:
                self._error(f"{label}: input '{t.name}' is neither a weight nor a graph input nor made by a node")
            return
        if t.producer_node in positions:
            if positions[t.producer_node] >= position:
                self._error(f"{label}: input '{t.name}' is read before node '{t.producer_node}' makes it")
            self._check_output_index(t, label)
        elif t.producer_node not in self.inputs:
            self._error(f"{label}: unknown producer '{t.producer_node}' of input '{t.name}'")

    def _check_output_index(self, t: TensorMeta, label: str) -> None:
        outputs = self.outputs_of[t.producer_node or ""]
        index = t.producer_output_idx
        if type(index) is not int or not 0 <= index < len(outputs):
            self._error(f"{label}: input '{t.name}' is output {index} of '{t.producer_node}', which has {len(outputs)}")
            return
        if tuple(outputs[index].shape) != tuple(t.shape) or outputs[index].dtype != t.dtype:
            self._error(
                f"{label}: input '{t.name}' is {t.dtype} {list(t.shape)}, but '{t.producer_node}' makes "
                f"{outputs[index].dtype} {list(outputs[index].shape)}"
            )

    def _check_bodies(self, node: OpNode, label: str) -> None:
        if node.op_type in ("cond", "while_loop"):
            roles = [v for k, v in node.attrs.items() if k.endswith("_graph")]
            if len(roles) != 2:
                self._error(f"{label}: {node.op_type} needs two bodies, has {len(roles)}")
            for body in roles:
                if not isinstance(body, str) or body not in self.ir.subgraphs:
                    self._error(f"{label}: unknown subgraph {body!r}")

    def _check_ends(self) -> None:
        results = {t.name for n in self.ir.nodes for t in n.outputs}
        for t in self.ir.graph_outputs:
            if t.name not in results and t.name not in self.inputs and t.name not in self.weights:
                self._error(f"graph output '{t.name}' is not produced by any node")
        for m in self.ir.mutations:
            if m.value.name not in results and m.value.name not in self.inputs and m.value.name not in self.weights:
                self._error(f"mutation of '{m.target}': its value '{m.value.name}' is not produced by any node")
        if self.ir.output_names and len(self.ir.output_names) != len(self.ir.graph_outputs):
            self._error(
                f"output_names has {len(self.ir.output_names)} entries for {len(self.ir.graph_outputs)} outputs"
            )
