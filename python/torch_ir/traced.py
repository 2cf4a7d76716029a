"""Converts FX graphs of ATen calls that were not made by ``torch.export``, such as those of AOTAutograd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ConstantArgument,
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)

from .converter import IRConverter
from .errors import ConversionError
from .ir import IR

__all__ = ["convert_traced"]


@dataclass
class _Traced:
    """What the analyzer and the converter read of an exported program."""

    graph_module: fx.GraphModule
    graph_signature: ExportGraphSignature
    constants: dict[str, torch.Tensor]
    state_dict: dict[str, torch.Tensor] = field(default_factory=dict)
    call_spec: Any = field(default_factory=lambda: SimpleNamespace(in_spec=None, out_spec=None))

    @property
    def graph(self) -> fx.Graph:
        return self.graph_module.graph

    def run_decompositions(self, _table: Any) -> NoReturn:
        raise ConversionError("the graph writes tensors in place; expected one that AOTAutograd made functional")


def convert_traced(graph_module: fx.GraphModule, weights: Mapping[str, str], model_name: str = "") -> IR:
    """The IR of a functional graph of ATen calls, whose nodes have their fake tensors in ``meta["val"]``.

    ``weights`` maps placeholders to names of weights; all other placeholders are inputs. Every output is a tensor.
    Tensors that the graph holds as attributes become constants of the IR; this changes ``graph_module``. Operators in
    their training form are taken as they are, because functional ones write no state.
    """
    constants = _lift_constants(graph_module)
    signature = ExportGraphSignature(
        [_input_spec(n, weights, constants) for n in graph_module.graph.nodes if n.op == "placeholder"],
        [_output_spec(value) for value in _outputs(graph_module)],
    )
    traced = _Traced(graph_module, signature, {name: tensor for _, (name, tensor) in constants.items()})
    ir = IRConverter(allow_training=True).convert(cast(ExportedProgram, traced), model_name=model_name)
    ir.constants = {name: tensor.detach().cpu() for name, tensor in traced.constants.items()}
    return ir


def _lift_constants(graph_module: fx.GraphModule) -> dict[str, tuple[str, torch.Tensor]]:
    """Makes placeholders of tensor attributes; returns their names and tensors, by placeholder."""
    lifted: dict[str, tuple[str, torch.Tensor]] = {}
    by_target: dict[str, fx.Node] = {}
    graph = graph_module.graph
    first = next(iter(graph.nodes))
    for node in list(graph.nodes):
        if node.op != "get_attr" or not isinstance(value := _attribute(graph_module, node), torch.Tensor):
            continue
        if node.target not in by_target:
            with graph.inserting_before(first):
                placeholder = graph.placeholder(f"{node.name}_constant")
            placeholder.meta = {"val": value, **node.meta}
            by_target[node.target] = placeholder
            lifted[placeholder.name] = (f"constant.{node.target}", value)
        node.replace_all_uses_with(by_target[node.target])
        graph.erase_node(node)
    return lifted


def _attribute(graph_module: fx.GraphModule, node: fx.Node) -> Any:
    value: Any = graph_module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value


def _input_spec(
    node: fx.Node, weights: Mapping[str, str], constants: Mapping[str, tuple[str, torch.Tensor]]
) -> InputSpec:
    if not isinstance(node.meta.get("val"), torch.Tensor):
        return InputSpec(InputKind.USER_INPUT, ConstantArgument(node.name, node.meta.get("val")), None)
    argument = TensorArgument(node.name)
    if node.name in weights:
        return InputSpec(InputKind.PARAMETER, argument, weights[node.name])
    if node.name in constants:
        return InputSpec(InputKind.CONSTANT_TENSOR, argument, constants[node.name][0])
    return InputSpec(InputKind.USER_INPUT, argument, None)


def _outputs(graph_module: fx.GraphModule) -> list[Any]:
    (output,) = graph_module.graph.find_nodes(op="output")
    returned = output.args[0]
    return list(returned) if isinstance(returned, (list, tuple)) else [returned]


def _output_spec(value: Any) -> OutputSpec:
    if not isinstance(value, fx.Node):
        raise ConversionError(f"The graph returns {value!r}; expected only tensors among its outputs")
    return OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(value.name), None)
