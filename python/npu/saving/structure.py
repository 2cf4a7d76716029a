"""Arguments to tensors, and tensors to results, by a signature. Without PyTorch."""

from __future__ import annotations

import collections
import dataclasses
import keyword
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from npu_base.arguments import ArgumentBinder
from npu_base.errors import InvalidTypeError, InvalidValueError, NotBuiltError, NPUError, format_error
from npu_base.nesting import is_encoded, objects_in, plain

from npu.saving.signature import Signature, class_at

__all__ = ["Arguments", "Classes", "decode"]


class Arguments(ArgumentBinder):
    """Knows the containers and constants of PyTorch if the caller has imported it."""

    def __init__(self, signature: Signature) -> None:
        super().__init__(signature.inputs, signature.input_structure, signature.parameters, signature.defaults)

    def bind(self, inputs: Any, kwargs: Mapping[str, Any]) -> list[Any]:
        tensors = super().bind(inputs, kwargs)
        for tensor, spec in zip(tensors, self.inputs, strict=True):
            if getattr(tensor, "is_meta", False):
                self.refuse(f"Input '{spec.name}' is on meta, so it has no data to run on")
        return tensors

    def contents(self, value: Any) -> list[Any] | None:
        children = super().contents(value)
        if children is not None or "torch_ir" not in sys.modules:
            return children
        from torch_ir.inputs import contents

        return contents(value)

    def decode(self, value: Any) -> Any:
        return decode(value)


class Classes:
    """The classes that results may be rebuilt with: those that the caller passed, and those imported already.

    Only named tuples and dataclasses with the right fields, so that a file cannot choose what is called.
    """

    def __init__(self, classes: Iterable[type], structure: Any) -> None:
        self.given = tuple(classes) if isinstance(classes, Iterable) else (classes,)
        self._classes: dict[str, type] = {}
        given: dict[str, type] = {}
        for one in self.given:
            if not isinstance(one, type):
                raise InvalidTypeError(
                    format_error("saved", "classes must be types", got=f"{one!r:.60}", expected="such as [MyOutput]")
                )
            given[f"{one.__module__}.{one.__qualname__}"] = one
        for node in objects_in(structure):
            name, keys = node["type"], node.get("keys")
            cls: type | None = given.get(name)
            if cls is not None and not _fits(cls, keys):
                what = f"the class {name} does not have the fields of the saved one"
                raise InvalidValueError(format_error("saved", what, expected=", ".join(map(str, keys or ()))))
            cls = cls or class_at(name)
            if cls is not None and _fits(cls, keys):
                self._classes[name] = cls

    def make(self, node: dict[str, Any], items: list[Any]) -> Any:
        if node["kind"] != "object" or node.get("keys") is None:
            return plain(node, items)
        keys, cls = node["keys"], self._classes.get(node["type"])
        if cls is not None:
            return cls(**dict(zip(keys, items, strict=True)))
        if node.get("form") == "named tuple":
            name = node["type"].rpartition(".")[2]
            valid = name.isidentifier() and not keyword.iskeyword(name)
            return collections.namedtuple(name if valid else "Result", map(str, keys), rename=True)(*items)
        return plain(node, items)


def _fits(cls: type, keys: Sequence[Any] | None) -> bool:
    if keys is None:
        return False
    if dataclasses.is_dataclass(cls):
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
        needed = {
            name for name, field in fields.items()
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }  # fmt: skip
        return needed <= set(keys) <= set(fields)
    return issubclass(cls, tuple) and tuple(getattr(cls, "_fields", ())) == tuple(keys)


def rebuild(structure: dict[str, Any], tensors: Sequence[Any], classes: Classes) -> Any:
    if "tensor" in structure:
        return tensors[structure["tensor"]]
    if "kind" not in structure:
        return decode(structure.get("value"))
    items = [rebuild(child, tensors, classes) for child in structure["items"]]
    if structure["kind"] == "object":
        return classes.make(structure, items)
    if structure.get("keys") is not None:
        return dict(zip(structure["keys"], items, strict=True))
    return items if structure["kind"] == "list" else tuple(items)


def decode(value: Any) -> Any:
    """A constant. Those that are not plain JSON are values of PyTorch, such as dtypes."""
    if not is_encoded(value):
        return value
    if "torch" not in sys.modules:
        what = f"a result of this model is a value of PyTorch, {value!r:.60}"
        raise NotBuiltError(format_error("saved", what, action="import torch before the call"))
    from torch_ir._encoding import decode_attr

    try:
        return decode_attr(value, "", "")
    except NPUError:  # in a file that was read before PyTorch was imported
        what, expected = "a result of this model is no valid value of PyTorch", "such as {'$dtype': 'float32'}"
        raise InvalidValueError(format_error("saved", what, got=f"{value!r:.60}", expected=expected)) from None
