"""The structure of nested inputs and outputs, as an IR and a saved file describe it: plain JSON.

A node is ``{"tensor": i}`` (the i-th input or output), ``{"value": v}`` (a constant of the trace, or a size), or
``{"kind": "tuple" | "list" | "dict" | "object", "type": ..., "keys": [...], "items": [...]}``. Objects have the name of
their class as ``type``, and dicts that are an ``OrderedDict`` have its name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = [
    "DEEPEST",
    "ORDERED_DICT",
    "TAGS",
    "Make",
    "has_other_objects",
    "is_encoded",
    "is_key",
    "key_of",
    "leaf_entries",
    "objects_in",
    "plain",
    "rebuild",
    "size_text",
    "traced_names",
    "tuple_fields",
]

Make = Callable[[dict[str, Any], list[Any]], Any]
"""A container from its node and its contents."""


DEEPEST = 100
"""How many containers may be in each other."""


ORDERED_DICT = "collections.OrderedDict"


def is_key(value: Any) -> bool:
    """Whether JSON keeps it as the key of a dict; NaN is unequal to what JSON would give back."""
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and value == value)


def key_of(value: Any) -> Any:
    """A key as structures have it: as text, if JSON does not keep it."""
    return value if is_key(value) else repr(value)


def tuple_fields(cls: Any) -> tuple[str, ...] | None:
    """The names of the items of a named tuple, or of a tuple whose class is written in C, as of ``torch.max``."""
    if not isinstance(cls, type) or not issubclass(cls, tuple):
        return None
    names = getattr(cls, "__match_args__", None) if hasattr(cls, "n_sequence_fields") else getattr(cls, "_fields", None)
    return None if names is None else tuple(names)


def leaf_entries(structure: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The leaves in order."""
    if "items" not in structure:
        yield structure
    for child in structure.get("items", ()):
        yield from leaf_entries(child)


def objects_in(structure: Any) -> Iterator[dict[str, Any]]:
    """The nodes that stand for instances of classes."""
    if isinstance(structure, dict):
        if structure.get("kind") == "object":
            yield structure
        for item in structure.get("items", ()):
            yield from objects_in(item)


def traced_names(structure: dict[str, Any], parameters: Sequence[str]) -> list[str]:
    """The names of the arguments of a call, by position and then by name, whose positional ``parameters`` these are."""
    positional, by_name = structure["items"]
    return [*parameters[: len(positional["items"])], *by_name.get("keys", ())]


def plain(node: dict[str, Any], items: list[Any]) -> Any:
    """Tuples, lists and dicts. Objects with named fields become dicts, others tuples."""
    if node.get("keys") is not None:
        pairs = zip(node["keys"], items, strict=True)
        return OrderedDict(pairs) if node.get("type") == ORDERED_DICT else dict(pairs)
    return items if node["kind"] == "list" else tuple(items)


def rebuild(structure: dict[str, Any], tensors: Sequence[Any], decode: Callable[[Any], Any], make: Make = plain) -> Any:
    """What the structure describes, with these tensors. ``make`` gets containers' nodes and their contents."""
    if "tensor" in structure:
        return tensors[structure["tensor"]]
    if "kind" not in structure:
        return decode(structure.get("value"))
    return make(structure, [rebuild(child, tensors, decode, make) for child in structure["items"]])


def size_text(value: Any) -> Any:
    """The expression, if a value is ``{"$size": expression}``: a number that depends on sizes that are open."""
    return value["$size"] if isinstance(value, dict) and list(value) == ["$size"] else None


TAGS = frozenset(("$dtype", "$device", "$layout", "$memory_format", "$size", "$complex", "$tensor"))
"""What a constant that is not plain JSON may be, as the only key of an object."""


def has_other_objects(value: Any) -> bool:
    """Whether a constant has an object that stands for nothing: containers are nodes of their own."""
    if isinstance(value, dict):
        return len(value) != 1 or not TAGS.issuperset(value)
    return isinstance(value, list) and any(map(has_other_objects, value))


def is_encoded(value: Any) -> bool:
    """Whether a constant is not plain JSON but stands for a value of PyTorch, such as a dtype."""
    if isinstance(value, dict):
        return any(str(key).startswith("$") for key in value) or any(map(is_encoded, value.values()))
    return isinstance(value, list) and any(map(is_encoded, value))
