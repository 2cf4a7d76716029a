"""The structure of nested inputs and outputs as JSON, so that IR has the model's signature.

``npu_base.nesting`` says what the JSON is.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from npu_base import nesting
from torch.utils import _pytree as pytree

from ._encoding import decode_attr, encode_attr
from .errors import ConversionError


def describe(
    spec: pytree.TreeSpec, leaves: list[Any], is_tensor: Callable[[Any], bool], *, results: bool
) -> dict[str, Any]:
    """JSON for a tree. Tensors are numbered in order; other leaves are written as values. Keys of dicts that JSON does
    not keep are text in arguments, which are compared as text too, but cannot be among ``results``.

    Raises:
        ConversionError: JSON would not keep a key, or the tree is too deep.
    """
    what = "The results of the model" if results else "The example inputs"
    remaining = iter(leaves)
    count = iter(range(len(leaves)))

    def walk(node: pytree.TreeSpec, depth: int = 0) -> dict[str, Any]:
        if depth > nesting.DEEPEST:
            raise ConversionError(f"{what} are nested too deeply; an IR holds at most {nesting.DEEPEST} levels")
        if node.is_leaf():
            leaf = next(remaining)
            return {"tensor": next(count)} if is_tensor(leaf) else {"value": _constant(leaf)}
        kind, keys = _kind_and_keys(node)
        entry: dict[str, Any] = {"kind": kind}
        if kind == "object":
            cls = node.context if isinstance(node.context, type) else node.type  # of a named tuple, it is the context
            entry["type"] = f"{cls.__module__}.{cls.__qualname__}"
        if node.type is OrderedDict:
            entry["type"] = nesting.ORDERED_DICT
        if keys is not None:
            entry["keys"] = _keys(keys, what, may_be_text=not results)
        entry["items"] = [walk(child, depth + 1) for child in children_of(node)]
        return entry

    return walk(spec)


def children_of(node: pytree.TreeSpec) -> list[pytree.TreeSpec]:
    # A method since PyTorch 2.10, an attribute before.
    return list(node.children() if hasattr(node, "children") else node.children_specs)


def _constant(value: Any) -> Any:
    try:
        return encode_attr(value, "constant")
    except Exception:
        return repr(value)  # an object of the model's own, which can be compared but not rebuilt


def _kind_and_keys(node: pytree.TreeSpec) -> tuple[str, list[Any] | None]:
    if node.type is tuple:
        return "tuple", None
    if node.type is list:
        return "list", None
    context, count = node.context, node.num_children
    if node.type in (dict, OrderedDict, defaultdict):
        keys = list(context[1]) if node.type is defaultdict else list(context)
        return "dict", keys
    return "object", _field_names(node.type, context, count)


def _keys(keys: list[Any], what: str, may_be_text: bool) -> list[Any]:
    kept = list(map(nesting.key_of, keys))
    changed = next((key for key in keys if not nesting.is_key(key)), None)
    if changed is not None and not (may_be_text and len(set(kept)) == len(keys)):
        raise ConversionError(
            f"{what} have a dict with the key {changed!r:.60}, a {type(changed).__name__}, which an IR cannot hold; it "
            f"holds text, numbers, booleans and None as keys"
        )
    return kept


def _field_names(cls: Any, context: Any, count: int) -> list[str] | None:
    """Names of a registered class's children, if its context contains them."""
    candidates = [nesting.tuple_fields(context), nesting.tuple_fields(cls), context]
    if isinstance(context, (list, tuple)) and context:
        candidates.append(context[0])
    for names in candidates:
        fits = isinstance(names, (list, tuple)) and len(names) == count
        if fits and all(isinstance(n, str) for n in names):
            return list(names)
    return None


def leaf_paths(structure: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """For each tensor, its dotted path and whether the path starts with a name instead of a position."""

    def walk(node: dict[str, Any], path: tuple[str, ...], named: bool) -> Iterator[tuple[str, bool]]:
        if "tensor" in node:
            yield ".".join(path), named
        for i, child in enumerate(node.get("items", ())):
            keys = node.get("keys")
            yield from walk(child, (*path, str(keys[i]) if keys else str(i)), named or (not path and bool(keys)))

    return walk(structure, (), False)


def rebuild(structure: dict[str, Any], tensors: tuple[torch.Tensor, ...]) -> Any:
    """Plain tuples, lists and dicts with the tensors. Objects with named fields become dicts."""
    return nesting.rebuild(structure, tensors, lambda value: decode_attr(value, "", ""))
