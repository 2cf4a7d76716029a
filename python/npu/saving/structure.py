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
from npu_base.nesting import is_encoded, objects_in, plain, tuple_fields

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

    def check(self, tensor: Any, spec: Any) -> None:
        if hasattr(tensor, "detach") and _is_of_transform(tensor):
            self.refuse(
                f"Input '{spec.name}' is part of torch.func or torch.vmap, which cannot see into a compiled model; use "
                f"the module that was compiled there"
            )
        super().check(tensor, spec)

    def contents(self, value: Any) -> list[Any] | None:
        children = super().contents(value)
        if children is not None or "torch_ir" not in sys.modules:
            return children
        from torch_ir.inputs import contents

        return contents(value)

    def decode(self, value: Any) -> Any:
        return decode(value)


def _is_of_transform(tensor: Any) -> bool:
    torch: Any = sys.modules.get("torch")
    return isinstance(tensor, getattr(torch, "Tensor", ())) and torch._C._functorch.is_functorch_wrapped_tensor(tensor)


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
            if cls is not None:
                _check_given(cls, name, keys)
            cls = cls or class_at(name)
            if cls is not None and _fits(cls, keys):
                self._classes[name] = cls

    def make(self, node: dict[str, Any], items: list[Any]) -> Any:
        if node["kind"] != "object" or node.get("keys") is None:
            return _as_size(items) if node.get("type") == "torch.Size" else plain(node, items)
        keys, cls = node["keys"], self._classes.get(node["type"])
        if cls is not None:
            return cls(items) if hasattr(cls, "n_sequence_fields") else cls(**dict(zip(keys, items, strict=True)))
        if node.get("form") == "named tuple":
            name = node["type"].rpartition(".")[2]
            valid = name.isidentifier() and not keyword.iskeyword(name)
            return collections.namedtuple(name if valid else "Result", map(str, keys), rename=True)(*items)
        return plain(node, items)


def _check_given(cls: type, name: str, keys: Sequence[Any] | None) -> None:
    if keys is None:
        what = f"the class {name} cannot be rebuilt, because the file has no names for its fields"
        raise InvalidValueError(
            format_error("saved", what, expected="a named tuple or a dataclass", action="without it")
        )
    if not _fits(cls, keys):
        what = f"the class {name} does not have the fields of the saved one"
        raise InvalidValueError(format_error("saved", what, expected=", ".join(map(str, keys))))


def _as_size(items: list[Any]) -> Any:
    """What a tensor's ``shape`` is, if PyTorch is there."""
    torch = sys.modules.get("torch")
    return tuple(items) if torch is None or not all(type(n) is int for n in items) else torch.Size(items)


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
    return tuple_fields(cls) == tuple(keys)


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
