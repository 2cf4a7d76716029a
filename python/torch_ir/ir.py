"""The IR: a flat list of ATen calls over named tensors, without weights."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any, cast

from npu_base.errors import is_program
from npu_base.files import write_file
from npu_base.sizes import Size
from npu_base.specs import TensorSpec
from torch import Tensor, nn

from ._encoding import decode_attr, decode_constant, encode_attr, encode_constant
from ._text import from_text, read_text, to_text
from .errors import InvalidIRError, SerializationError

SCHEMA_VERSION = 2
"""Written into every file of fixed shapes. Files without a version are version 1."""
SIZED_VERSION = 3
"""Written into files with sizes that are open, which older readers must refuse."""
_REQUIRED = ("graph_inputs", "graph_outputs", "weights", "nodes")


def _read(d: Any, key: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
    """A field of a JSON object, after checking its type; the file may be damaged."""
    if not isinstance(d, dict):
        raise SerializationError(f"expected an object with '{key}', got {str(d)[:60]!r}")
    if default is ... and key not in d:
        raise SerializationError(f"missing key '{key}'")
    value = d.get(key, default)
    if not isinstance(value, kind) and value is not default:
        raise SerializationError(f"'{key}' must be a {getattr(kind, '__name__', 'list')}, got {str(value)[:60]!r}")
    return value


def _read_map(d: dict[str, Any], key: str) -> dict[str, str]:
    mapping = _read(d, key, dict, {})
    if not all(isinstance(v, str) for v in mapping.values()):
        raise SerializationError(f"'{key}' must map text to text")
    return dict(mapping)


@dataclass
class TensorMeta(TensorSpec):
    """A tensor's name, shape and dtype, and the producer of a node's input.

    A weight has no producer. A graph input is its own producer.
    """

    shape: tuple[int, ...]
    producer_node: str | None = None
    producer_output_idx: int = 0

    def to_dict(self) -> dict[str, Any]:
        d: dict[str, Any] = {
            "name": self.name,
            "shape": [s.text if isinstance(s, Size) else s for s in self.shape],
            "dtype": self.dtype,
        }
        if self.producer_node is not None:
            d["producer_node"] = self.producer_node
            d["producer_output_idx"] = self.producer_output_idx
        return d

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TensorMeta:
        return cls(
            _read(d, "name", str),
            cast(Any, tuple(Size(s) if isinstance(s, str) else s for s in _read(d, "shape", (list, tuple)))),
            _read(d, "dtype", str),
            _read(d, "producer_node", str, None),
            _read(d, "producer_output_idx", int, 0),
        )


@dataclass
class OpNode:
    """One call of an operator.

    ``absent_inputs`` names the optional tensor arguments of the operator's schema that were not passed, so that
    ``layer_norm(x, shape, None, bias)`` cannot be mistaken for one with a weight. ``module_path`` is the dotted path of
    the calling module (``@n`` marks its n-th further call), and ``source`` the line of Python.
    """

    name: str
    op_type: str
    inputs: list[TensorMeta]
    outputs: list[TensorMeta]
    attrs: dict[str, Any] = field(default_factory=dict)
    absent_inputs: list[str] = field(default_factory=list)
    module_path: str | None = None
    source: str | None = None

    def to_dict(self) -> dict[str, Any]:
        d: dict[str, Any] = {
            "name": self.name,
            "op_type": self.op_type,
            "inputs": [t.to_dict() for t in self.inputs],
            "outputs": [t.to_dict() for t in self.outputs],
            "attrs": {k: encode_attr(v, f"node '{self.name}', attr '{k}'") for k, v in self.attrs.items()},
        }
        if self.absent_inputs:
            d["absent_inputs"] = list(self.absent_inputs)
        if self.module_path is not None:
            d["module_path"] = self.module_path
        if self.source is not None:
            d["source"] = self.source
        return d

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> OpNode:
        op_type = _read(d, "op_type", str)
        return cls(
            _read(d, "name", str),
            op_type,
            [TensorMeta.from_dict(t) for t in _read(d, "inputs", list)],
            [TensorMeta.from_dict(t) for t in _read(d, "outputs", list)],
            {k: decode_attr(v, op_type, k) for k, v in _read(d, "attrs", dict, {}).items()},
            list(_read(d, "absent_inputs", list, [])),
            _read(d, "module_path", str, None),
            _read(d, "source", str, None),
        )


@dataclass
class Mutation:
    """A tensor that the model writes in place: after a run, ``target`` has the value ``value``.

    ``kind`` is ``buffer``, ``parameter``, ``constant`` (all three named by their state-dict name) or
    ``input`` (named as the graph input).
    """

    target: str
    kind: str
    value: TensorMeta

    def to_dict(self) -> dict[str, Any]:
        return {"target": self.target, "kind": self.kind, "value": self.value.to_dict()}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Mutation:
        return cls(_read(d, "target", str), _read(d, "kind", str), TensorMeta.from_dict(_read(d, "value", dict)))


@dataclass(frozen=True)
class SizeRange:
    """A size that is open, and its range. ``most`` is None if there is no limit."""

    name: str
    least: int = 0
    most: int | None = None

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.least} to {self.most}" if self.most is not None else f"{self.name}: from {self.least}"
        )

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "min": self.least, "max": self.most}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> SizeRange:
        return cls(_read(d, "name", str), _read(d, "min", int, 0), _read(d, "max", int, None))


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
        return (
            f"IR(model_name={self.model_name!r}, nodes={len(self.nodes)}, inputs={len(self.graph_inputs)}, "
            f"outputs={len(self.graph_outputs)}, weights={len(self.weights)})"
        )

    def __eq__(self, other: object) -> bool:
        # Compared as JSON, because == of tensors is not a bool and NaN is not equal to itself.
        if not isinstance(other, IR):
            return NotImplemented
        return json.dumps(self.to_dict()) == json.dumps(other.to_dict())

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "output_spec": None}  # its classes may be local to a function

    def specialize(self, shapes: Any = None, /, **sizes: int) -> IR:
        """The IR of one size: ``ir.specialize(batch=4)``, or by the shapes of the inputs, as a dict or in order."""
        from .specialization import specialize

        return specialize(self, shapes, sizes)

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
        constants = _read(d, "constants", dict, {})
        return cls(
            nodes=[OpNode.from_dict(n) for n in _read(d, "nodes", list)],
            graph_inputs=[TensorMeta.from_dict(t) for t in _read(d, "graph_inputs", list)],
            graph_outputs=[TensorMeta.from_dict(t) for t in _read(d, "graph_outputs", list)],
            weights=[TensorMeta.from_dict(t) for t in _read(d, "weights", list)],
            weight_name_mapping=_read_map(d, "weight_name_mapping"),
            constants={k: decode_constant(v, f"constant '{k}'") for k, v in constants.items()},
            model_name=_read(d, "model_name", str, ""),
            pytorch_version=_read(d, "pytorch_version", str, ""),
            ties=_read_map(d, "ties"),
            mutations=[Mutation.from_dict(m) for m in _read(d, "mutations", list, [])],
            output_names=[n if n is None else str(n) for n in _read(d, "output_names", list, [])],
            input_structure=_read(d, "input_structure", dict, None),
            output_structure=_read(d, "output_structure", dict, None),
            subgraphs={k: cls.from_dict(g) for k, g in _read(d, "subgraphs", dict, {}).items()},
            sizes=[SizeRange.from_dict(s) for s in _read(d, "sizes", list, [])],
            conditions=[Size(c).text for c in _read(d, "conditions", list, [])],
            schema_version=_read(d, "schema_version", int, 1),
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


def dict_to_ir(d: Any) -> IR:
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
