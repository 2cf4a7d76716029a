"""Converts an exported program to IR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.export import ExportedProgram

from .analyzer import GraphAnalyzer, NodeInfo
from .errors import ConversionError, InvalidNameError
from .flatgraph import FlatGraph, Value
from .ir import IR, OpNode, TensorMeta
from .ops.aten_ops import get_op_type
from .ops.registry import get_conversion_fn
from .refused_dtypes import refused_dtypes
from .restriding import make_operands_row_major
from .structure import describe, leaf_paths
from .symbols import Symbols
from .training import training_reason

__all__ = ["ConversionError", "IRConverter", "convert_exported_program", "convert_node"]


def convert_node(node_info: NodeInfo) -> OpNode:
    """Convert a call, by its registered conversion function or else one to one."""
    custom = get_conversion_fn(get_op_type(node_info.target))
    if custom is None:
        return _default(node_info)
    node = custom(node_info)
    if not isinstance(node, OpNode):
        raise TypeError(f"conversion function must return an OpNode, got {type(node).__name__}")
    return node


def convert_exported_program(
    exported: ExportedProgram, model_name: str = "", strict: bool = False, symbols: Symbols | None = None
) -> IR:
    """The IR of a program that ``torch.export`` made.

    Raises:
        ConversionError: the graph has something that an IR cannot hold.
    """
    return IRConverter(strict=strict).convert(exported, model_name=model_name, symbols=symbols)


class IRConverter:
    """``strict`` raises if a conversion function fails, instead of using the default mapping. ``allow_training``
    accepts operators in their training form, such as an active dropout."""

    def __init__(self, strict: bool = False, *, allow_training: bool = False) -> None:
        self.strict, self.allow_training = strict, allow_training

    def convert(self, exported: ExportedProgram, model_name: str = "", symbols: Symbols | None = None) -> IR:
        make_operands_row_major(exported.graph_module)
        analyzer = GraphAnalyzer(exported, symbols)
        subgraphs: dict[str, IR] = {}
        outputs = analyzer.user_outputs()
        input_structure, output_structure = _structures(exported, outputs, analyzer.symbols)
        ir = IR(
            graph_inputs=analyzer.get_graph_inputs(),
            nodes=self._nodes(analyzer, analyzer.flat, subgraphs),
            graph_outputs=analyzer.get_graph_outputs(),
            weights=analyzer.get_weights(),
            weight_name_mapping=analyzer.get_weight_name_mapping(),
            model_name=model_name,
            pytorch_version=str(torch.__version__),
            ties=analyzer.ties,
            mutations=analyzer.get_mutations(),
            output_names=_field_names(output_structure),
            input_structure=input_structure,
            output_structure=output_structure,
            subgraphs=subgraphs,
            output_spec=exported.call_spec.out_spec if output_structure is not None else None,
            sizes=analyzer.symbols.sizes,
            conditions=analyzer.symbols.conditions,
        )
        if not self.allow_training:
            _refuse_training(ir)
            _refuse_dtypes(ir)
        return ir

    def _nodes(self, analyzer: GraphAnalyzer, flat: FlatGraph, subgraphs: dict[str, IR]) -> list[OpNode]:
        return [self._node(analyzer, info, subgraphs) for info in analyzer.infos_of(flat)]

    def _node(self, analyzer: GraphAnalyzer, info: NodeInfo, subgraphs: dict[str, IR]) -> OpNode:
        for role, body in info.bodies.items():
            name = f"{info.name}.{role}"
            info.attrs[role] = name
            subgraphs[name] = self._subgraph(analyzer, body, name)
        try:
            return convert_node(info)
        except Exception as e:
            if self.strict:
                op_type = get_op_type(info.target)
                raise ConversionError(f"Failed to convert node '{info.name}' with op '{op_type}': {e}") from e
            return _default(info)

    def _subgraph(self, analyzer: GraphAnalyzer, body: FlatGraph, name: str) -> IR:
        nested: dict[str, IR] = {}
        nodes = self._nodes(analyzer, body, nested)
        if any(not isinstance(v, Value) for v in body.outputs):
            raise ConversionError(f"'{name}' returns something that is not a tensor")
        return IR(
            nodes=nodes,
            graph_inputs=[analyzer._meta(v) for v in body.inputs],
            graph_outputs=[analyzer._meta(v) for v in body.outputs],
            weights=[],
            model_name=name,
            pytorch_version=str(torch.__version__),
            subgraphs=nested,
        )


def _default(info: NodeInfo) -> OpNode:
    return OpNode(
        name=info.name,
        op_type=get_op_type(info.target),
        inputs=info.input_metas,
        outputs=info.output_metas,
        attrs=info.attrs,
        absent_inputs=info.absent_inputs,
        module_path=info.module_path,
        source=info.source,
    )


def _refuse_training(ir: IR) -> None:
    refused = [(node, reason) for node in ir.nodes if (reason := training_reason(node))]
    if not refused:
        return
    lines = [f"  - node '{n.name}' (module '{n.module_path}', {n.source}): {reason}" for n, reason in refused[:5]]
    more = f"\n  ... and {len(refused) - 5} more" if len(refused) > 5 else ""
    raise ConversionError(
        f"The graph of '{ir.model_name}' would train; an IR is for inference only. Call model.eval() first:\n"
        + "\n".join(lines)
        + more
    )


def _refuse_dtypes(ir: IR) -> None:
    for node in ir.nodes:
        reason = refused_dtypes(node)
        if reason is not None:
            raise ConversionError(
                f"Node '{node.name}' ({node.source or 'no source known'}): {node.op_type} cannot run for its dtypes; "
                f"got {reason}"
            )


def _structures(exported: ExportedProgram, outputs: list[Any], symbols: Symbols) -> tuple[Any, Any]:
    spec = exported.call_spec
    leaves = [s.arg for s in exported.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    # A tensor is an argument without a value; a constant of the trace carries one.
    values = [getattr(a, "value", a) for a in leaves]
    tensors = {id(v) for v, a in zip(values, leaves, strict=True) if not hasattr(a, "value")}
    accepted = None
    if spec.in_spec is not None and spec.in_spec.num_leaves == len(values):
        accepted = describe(spec.in_spec, values, lambda v: id(v) in tensors, results=False)
    returned = None
    if spec.out_spec is not None and spec.out_spec.num_leaves == len(outputs):
        leaves = [v if isinstance(v, Value) else _known(v, symbols) for v in outputs]
        returned = describe(spec.out_spec, leaves, lambda v: isinstance(v, Value), results=True)
    return accepted, returned


def _known(value: Any, symbols: Symbols) -> Any:
    """A result that is no tensor: a constant, or the expression of a size."""
    size = symbols.size(value)
    if size is None and value is not None:
        raise ConversionError(
            f"The model returns a number that depends on the contents of tensors, {value}, which an IR cannot hold; "
            f"return it as a tensor"
        )
    return size


def _field_names(structure: Any) -> list[str | None]:
    """Names of outputs that the model returns in named fields; positions of a plain tuple have none."""
    if structure is None:
        return []
    paths = list(leaf_paths(structure))
    return [path if named else None for path, named in paths] if any(named for _, named in paths) else []


def rename_inputs(ir: IR, names: Sequence[str]) -> None:
    """Rename the graph inputs, wherever they are read."""
    _check_names(ir, names, len(ir.graph_inputs), "input_names")
    new = {old.name: name for old, name in zip(ir.graph_inputs, names, strict=True)}
    taken = {n.name for n in ir.nodes} | set(ir.weight_name_mapping)
    for name in names:
        if name in taken:
            raise InvalidNameError(f"input_names: '{name}' is already the name of a node or weight in the graph")
    inputs = {t.name for t in ir.graph_inputs}
    metas = [*ir.graph_inputs, *ir.graph_outputs, *(t for n in ir.nodes for t in n.inputs)]
    metas.extend(m.value for m in ir.mutations)
    node_names = {n.name for n in ir.nodes}
    for t in _distinct(metas):
        from_input = t.producer_node in inputs if t.producer_node is not None else t.name not in node_names
        if from_input and t.name in new:
            t.name = new[t.name]
            if t.producer_node is not None:
                t.producer_node = t.name
    for mutation in ir.mutations:
        if mutation.kind == "input":
            mutation.target = new.get(mutation.target, mutation.target)


def set_output_names(ir: IR, names: Sequence[str]) -> None:
    _check_names(ir, names, len(ir.graph_outputs), "output_names")
    ir.output_names = list(names)


def _distinct(metas: list[TensorMeta]) -> list[TensorMeta]:
    return list({id(t): t for t in metas}.values())


def check_text(name: str, what: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidNameError(f"{what}: {name!r} has half of a surrogate pair, which no file can hold") from None


def _check_names(ir: IR, names: Sequence[str], count: int, what: str) -> None:
    if not isinstance(names, Sequence) or isinstance(names, str) or not all(isinstance(n, str) and n for n in names):
        raise InvalidNameError(f"{what}: expected a list of non-empty strings, got {names!r}")
    for name in names:
        check_text(name, what)
    if len(names) != count:
        kind = what.split("_")[0]
        raise InvalidNameError(f"{what}: got {len(names)} names, the model has {count} {kind}s")
    if len(set(names)) != len(names):
        raise InvalidNameError(f"{what}: names must differ, got {names!r}")
