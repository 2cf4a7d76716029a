"""The IR: a flat list of ATen calls over named tensors, without weights."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from npu_base.errors import is_program
from npu_base.files import write_file
from npu_base.sizes import Size
from torch import Tensor, nn

from ._encoding import decode_constant, encode_constant
from ._text import from_text, read_text, to_text
from .errors import InvalidIRError, SerializationError
from .parts import Mutation, OpNode, SizeRange, TensorMeta, read_field, read_map, read_size_range
from .specialization import specialize

__all__ = ["IR", "Mutation", "OpNode", "SizeRange", "TensorMeta", "check_fixed", "check_ir", "dict_to_ir"]

SCHEMA_VERSION = 2
"""Written into every file of fixed shapes. Files without a version are version 1."""
SIZED_VERSION = 3
"""Written into files with sizes that are open, which older readers must refuse."""
_REQUIRED = ("graph_inputs", "graph_outputs", "weights", "nodes")


@dataclass(eq=False)
class IR:
    """A model's graph, without the values of weights."""

    nodes: list[OpNode]
    graph_inputs: list[TensorMeta]
    graph_outputs: list[TensorMeta]
    weights: list[TensorMeta]
    weight_name_mapping: dict[str, str] = field(default_factory=dict)
    """Maps names that nodes use to state-dict names."""
    constants: dict[str, Tensor] = field(default_factory=dict)
    """Values of tensors that no checkpoint contains: lifted constants and non-persistent buffers."""
    model_name: str = ""
    pytorch_version: str = ""
    ties: dict[str, str] = field(default_factory=dict)
    """Maps further state-dict names of a weight to its name in ``weights``."""
    mutations: list[Mutation] = field(default_factory=list)
    output_names: list[str | None] = field(default_factory=list)
    """Further names of the graph outputs, in their order. Empty if there are none."""
    input_structure: Any = None
    output_structure: Any = None
    subgraphs: dict[str, IR] = field(default_factory=dict)
    """Bodies of control flow, by the names in nodes' attributes."""
    output_spec: Any = field(default=None, repr=False)
    """``output_structure`` as PyTorch has it, with the model's own classes. It is known after tracing only."""
    sizes: list[SizeRange] = field(default_factory=list)
    """The sizes that are open. Shapes and attributes contain expressions of them."""
    conditions: list[str] = field(default_factory=list)
    """What must hold of the sizes, beside their ranges."""
    schema_version: int = SCHEMA_VERSION

    def __repr__(self) -> str:
        sizes = f", sizes=[{', '.join(map(str, self.sizes))}]" if self.sizes else ""
        return (
            f"IR(model_name={self.model_name!r}, nodes={len(self.nodes)}, inputs={len(self.graph_inputs)}, "
            f"outputs={len(self.graph_outputs)}, weights={len(self.weights)}{sizes})"
        )

    def __eq__(self, other: object) -> bool:
        # Compared as JSON, because == of tensors is not a bool and NaN is not equal to itself.
        if not isinstance(other, IR):
            return NotImplemented
        return json.dumps(self.to_dict()) == json.dumps(other.to_dict())

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "output_spec": None}  # its classes may be local to a function

    def specialize(
        self, shapes: Mapping[str, Sequence[int]] | Sequence[Sequence[int]] | None = None, /, **sizes: int
    ) -> IR:
        """The IR of one size: ``ir.specialize(batch=4)``, or by the shapes of the inputs, as a dict or in order."""
        special: IR = specialize(self, shapes, sizes)
        return special

    def weights_read(self) -> set[str]:
        """State-dict names of the weights that some node, output or mutation reads."""
        metas = [t for n in self.nodes for t in n.inputs]
        metas += [*self.graph_outputs, *(m.value for m in self.mutations)]
        known = {t.name for t in self.weights}
        return {self.weight_name_mapping.get(t.name, t.name) for t in metas if t.producer_node is None} & known

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON types. Empty optional parts are left out."""
        d: dict[str, Any] = {
            "model_name": self.model_name,
            "pytorch_version": self.pytorch_version,
            "graph_inputs": [t.to_dict() for t in self.graph_inputs],
            "graph_outputs": [t.to_dict() for t in self.graph_outputs],
            "weights": [t.to_dict() for t in self.weights],
            "weight_name_mapping": dict(self.weight_name_mapping),
            "nodes": [n.to_dict() for n in self.nodes],
        }
        if self.constants:
            d["constants"] = {k: encode_constant(v, f"constant '{k}'") for k, v in self.constants.items()}
        if self.ties:
            d["ties"] = dict(self.ties)
        if self.mutations:
            d["mutations"] = [m.to_dict() for m in self.mutations]
        if self.output_names:
            d["output_names"] = list(self.output_names)
        if self.input_structure is not None:
            d["input_structure"] = self.input_structure
        if self.output_structure is not None:
            d["output_structure"] = self.output_structure
        if self.subgraphs:
            d["subgraphs"] = {k: g.to_dict() for k, g in self.subgraphs.items()}
        if self.sizes:
            d["sizes"] = [s.to_dict() for s in self.sizes]
        if self.conditions:
            d["conditions"] = list(self.conditions)
        d["schema_version"] = SIZED_VERSION if self.sizes else SCHEMA_VERSION
        return d

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> IR:
        constants = read_field(d, "constants", dict, {})
        return cls(
            nodes=[OpNode.from_dict(n) for n in read_field(d, "nodes", list)],
            graph_inputs=[TensorMeta.from_dict(t) for t in read_field(d, "graph_inputs", list)],
            graph_outputs=[TensorMeta.from_dict(t) for t in read_field(d, "graph_outputs", list)],
            weights=[TensorMeta.from_dict(t) for t in read_field(d, "weights", list)],
            weight_name_mapping=read_map(d, "weight_name_mapping"),
            constants={k: decode_constant(v, f"constant '{k}'") for k, v in constants.items()},
            model_name=read_field(d, "model_name", str, ""),
            pytorch_version=read_field(d, "pytorch_version", str, ""),
            ties=read_map(d, "ties"),
            mutations=[Mutation.from_dict(m) for m in read_field(d, "mutations", list, [])],
            output_names=[n if n is None else str(n) for n in read_field(d, "output_names", list, [])],
            input_structure=read_field(d, "input_structure", dict, None),
            output_structure=read_field(d, "output_structure", dict, None),
            subgraphs={k: cls.from_dict(g) for k, g in read_field(d, "subgraphs", dict, {}).items()},
            sizes=[read_size_range(s) for s in read_field(d, "sizes", list, [])],
            conditions=[Size(c).text for c in read_field(d, "conditions", list, [])],
            schema_version=read_field(d, "schema_version", int, 1),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the IR as JSON, in an existing folder. If this fails, an old file stays unchanged."""
        write_file(path, to_text(self.to_dict()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> IR:
        return dict_to_ir(from_text(read_text(path)))


def check_ir(given: Any) -> None:
    if isinstance(given, IR):
        return
    advice = "read a file with load_ir first"
    if is_program(given):
        advice = "it is a compiled program, run it with npu_runtime.Executor(program, Device())"
    elif isinstance(given, nn.Module):
        advice = "extract its IR first: extract_ir(module, example_inputs)"
    elif isinstance(given, dict):
        advice = "make an IR of it: IR.from_dict(...)"
    raise InvalidIRError(f"Expected an IR, got {type(given).__name__}; {advice}")


def check_fixed(ir: IR, doing: str) -> None:
    """Refuse an IR with open sizes, where tensors must have a shape."""
    if ir.sizes:
        example = ", ".join(f"{s.name}={max(s.least, 1)}" for s in ir.sizes)
        raise InvalidIRError(
            f"Cannot {doing} '{ir.model_name}': its sizes are open ({'; '.join(map(str, ir.sizes))}); choose them "
            f"first: ir.specialize({example})"
        )


def dict_to_ir(d: dict[str, Any]) -> IR:
    """The IR that ``ir_to_dict`` made into a dict.

    Raises:
        SerializationError: the dict is not an IR, or one of a newer version.
    """
    if not isinstance(d, dict):
        raise SerializationError(f"Invalid IR format: expected an object, got {type(d).__name__}")
    version = d.get("schema_version", 1)
    if type(version) is not int or version < 1:
        raise SerializationError(f"Invalid IR format: schema_version is {version!r}, expected a positive integer")
    if version > SIZED_VERSION:
        raise SerializationError(
            f"Invalid IR format: schema version {version} is newer than {SIZED_VERSION}, the newest that this "
            f"version of torch_ir reads; upgrade torch_ir"
        )
    missing = [k for k in _REQUIRED if k not in d]
    if missing:
        raise SerializationError(f"Invalid IR format: missing {', '.join(map(repr, missing))}")
    try:
        return IR.from_dict(d)
    except SerializationError as e:
        raise SerializationError(f"Invalid IR format: {e}") from e
    except KeyError as e:
        raise SerializationError(f"Invalid IR format: missing key {e}") from e
    except (TypeError, ValueError, AttributeError) as e:
        raise SerializationError(f"Invalid IR format: {e}") from e
