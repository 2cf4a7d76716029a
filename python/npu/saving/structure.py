"""Arguments to tensors, and tensors to results, by a signature. Without PyTorch."""

from __future__ import annotations

import collections
import dataclasses
import keyword
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from npu_base.errors import InvalidTypeError, InvalidValueError, NotBuiltError, format_error

from npu.saving.signature import Signature, class_at, objects_in

__all__ = ["Arguments", "Classes", "is_tensor", "rebuild", "tensor_dtype"]


def is_tensor(value: Any) -> bool:
    """Of NumPy, PyTorch, ours, or another library that speaks DLPack."""
    return hasattr(value, "__dlpack__") and hasattr(value, "shape") and hasattr(value, "dtype")


def tensor_dtype(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


class Arguments:
    """Brings the arguments of a call into the order of the program's inputs, and checks them."""

    def __init__(self, signature: Signature) -> None:
        self._entries = signature.inputs
        self._names = [entry.name for entry in signature.inputs]
        self._structure = signature.input_structure

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        tensors = self._flat(args, kwargs)
        for tensor, entry in zip(tensors, self._entries, strict=True):
            if tuple(tensor.shape) != entry.shape:
                got, expected = f"shape {list(tensor.shape)}", f"{list(entry.shape)}"
                action = "compiling and saving the model for inputs of this shape"
                raise InvalidValueError(
                    format_error("run", f"input '{entry.name}' does not fit", got=got, expected=expected, action=action)
                )
            if tensor_dtype(tensor) != entry.dtype:
                raise InvalidValueError(
                    format_error(
                        "run",
                        f"input '{entry.name}' does not fit",
                        got=f"dtype {tensor_dtype(tensor)}",
                        expected=entry.dtype,
                        action="converting it, because nothing is cast",
                    )
                )
        return tensors

    def _flat(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        if not kwargs and len(args) == len(self._names) and all(map(is_tensor, args)):
            return tuple(args)
        named = not args and kwargs.keys() == set(self._names)
        if named and all(map(is_tensor, kwargs.values())):
            return tuple(kwargs[name] for name in self._names)
        if self._structure is None:
            got = ", ".join([*(type(a).__name__ for a in args), *(f"{k}=" for k in kwargs)]) or "no arguments"
            expected = f"{len(self._names)} tensors: {', '.join(self._names)}"
            raise InvalidTypeError(format_error("run", "the arguments do not fit", got=got, expected=expected))
        tensors: list[Any] = []
        positional, by_name = self._structure["items"]
        self._take(positional, tuple(args), "the positional arguments", tensors)
        self._take(by_name, dict(kwargs), "the keyword arguments", tensors)
        return tuple(tensors)

    def _take(self, node: dict[str, Any], value: Any, where: str, tensors: list[Any]) -> None:
        if "tensor" in node:
            if not is_tensor(value):
                name = self._names[node["tensor"]]
                what, expected = f"input '{name}' is not a tensor", "a NumPy array or a torch tensor"
                raise InvalidTypeError(format_error("run", what, got=type(value).__name__, expected=expected))
            tensors.append(value)
        elif "kind" not in node:
            wanted = decode(node.get("value"))
            given = value if isinstance(value, bool | int | float | str | None | list | tuple) else repr(value)
            given = list(given) if isinstance(given, tuple) else given
            if type(given) is not type(wanted) or given != wanted:
                what, action = f"{where}: a value differs from the one in the example inputs", "compiling it again"
                raise InvalidValueError(
                    format_error("run", what, got=f"{value!r:.60}", expected=f"{wanted!r:.60}", action=action)
                )
        else:
            items = self._items(node, value, where)
            names = node.get("keys") or range(len(items))
            for child, name, item in zip(node["items"], names, items, strict=True):
                inner = f"argument {name!r}" if where.startswith("the ") else f"{where}[{name!r}]"
                self._take(child, item, inner, tensors)

    def _items(self, node: dict[str, Any], value: Any, where: str) -> list[Any]:
        keys, count = node.get("keys"), len(node["items"])
        if keys is None:
            if not isinstance(value, tuple | list) or len(value) != count:
                got = f"{len(value)}" if isinstance(value, tuple | list) else type(value).__name__
                names = f" (the inputs are {', '.join(self._names)})"
                raise InvalidTypeError(
                    format_error("run", f"{where} do not fit", got=got, expected=f"{count} of them{names}")
                )
            return list(value)
        if node["kind"] == "object" and not isinstance(value, Mapping):
            value = {key: getattr(value, str(key)) for key in keys if hasattr(value, str(key))}
        if not isinstance(value, Mapping) or set(value) != set(keys):
            got = f"the keys {', '.join(map(str, value))}" if isinstance(value, Mapping) else type(value).__name__
            expected = f"the keys {', '.join(map(str, keys))}" if keys else "none"
            raise InvalidTypeError(format_error("run", f"{where} do not fit", got=got or "none", expected=expected))
        return [value[key] for key in keys]


class Classes:
    """The classes that results may be rebuilt with: those that the caller passed, and those imported already.

    Only named tuples and dataclasses with the right fields, so that a file cannot choose what is called.
    """

    def __init__(self, classes: Iterable[type], structure: Any) -> None:
        self._classes: dict[str, type] = {}
        given: dict[str, type] = {}
        for one in classes:
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
        keys, cls = node.get("keys"), self._classes.get(node["type"])
        if keys is None:
            return tuple(items)
        if cls is not None:
            return cls(**dict(zip(keys, items, strict=True)))
        if node.get("form") == "named tuple":
            name = node["type"].rpartition(".")[2]
            valid = name.isidentifier() and not keyword.iskeyword(name)
            return collections.namedtuple(name if valid else "Result", map(str, keys), rename=True)(*items)
        return dict(zip(keys, items, strict=True))


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
    if not _is_encoded(value):
        return value
    if "torch" not in sys.modules:
        what = f"a result of this model is a value of PyTorch, {value!r:.60}"
        raise NotBuiltError(format_error("saved", what, action="import torch before the call"))
    from torch_ir._encoding import decode_attr

    return decode_attr(value, "", "")


def _is_encoded(value: Any) -> bool:
    if isinstance(value, dict):
        return any(str(key).startswith("$") for key in value) or any(map(_is_encoded, value.values()))
    return isinstance(value, list) and any(map(_is_encoded, value))
