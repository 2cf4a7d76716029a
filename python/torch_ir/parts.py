"""The parts of an IR: tensors, nodes, mutations and open sizes, and the reading of their fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from npu_base.size_rules import SizeRange
from npu_base.sizes import Size
from npu_base.specs import TensorSpec

from ._encoding import decode_attr, encode_attr
from .errors import SerializationError

__all__ = ["Mutation", "OpNode", "SizeRange", "TensorMeta", "read_field", "read_map", "read_size_range"]


def read_field(d: Any, key: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
    """A field of a JSON object, after checking its type; the file may be damaged."""
    if not isinstance(d, dict):
        raise SerializationError(f"expected an object with '{key}', got {str(d)[:60]!r}")
    if default is ... and key not in d:
        raise SerializationError(f"missing key '{key}'")
    value = d.get(key, default)
    if not isinstance(value, kind) and value is not default:
        raise SerializationError(f"'{key}' must be a {getattr(kind, '__name__', 'list')}, got {str(value)[:60]!r}")
    return value


def read_map(d: dict[str, Any], key: str) -> dict[str, str]:
    mapping = read_field(d, key, dict, {})
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
            read_field(d, "name", str),
            cast(Any, tuple(Size(s) if isinstance(s, str) else s for s in read_field(d, "shape", (list, tuple)))),
            read_field(d, "dtype", str),
            read_field(d, "producer_node", str, None),
            read_field(d, "producer_output_idx", int, 0),
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
        op_type = read_field(d, "op_type", str)
        return cls(
            read_field(d, "name", str),
            op_type,
            [TensorMeta.from_dict(t) for t in read_field(d, "inputs", list)],
            [TensorMeta.from_dict(t) for t in read_field(d, "outputs", list)],
            {k: decode_attr(v, op_type, k) for k, v in read_field(d, "attrs", dict, {}).items()},
            list(read_field(d, "absent_inputs", list, [])),
            read_field(d, "module_path", str, None),
            read_field(d, "source", str, None),
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
        return cls(
            read_field(d, "target", str), read_field(d, "kind", str), TensorMeta.from_dict(read_field(d, "value", dict))
        )


def read_size_range(d: Any) -> SizeRange:
    return SizeRange(read_field(d, "name", str), read_field(d, "min", int, 0), read_field(d, "max", int, None))
