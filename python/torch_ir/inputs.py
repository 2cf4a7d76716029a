"""Flattens and checks the inputs that a caller passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from ._encoding import decode_attr, dtype_to_str
from .errors import InvalidInputError
from .ir import IR, TensorMeta
from .structure import leaf_entries


class InputBinder:
    """Converts the caller's arguments to the graph's inputs, and checks them."""

    def __init__(self, ir: IR, strict: bool) -> None:
        self.ir, self.strict = ir, strict

    def bind(self, inputs: Any, kwargs: dict[str, Any]) -> list[Tensor]:
        tensors = self._tensors(inputs, kwargs)
        expected = self.ir.graph_inputs
        if len(tensors) != len(expected):
            names = ", ".join(t.name for t in expected)
            hint = _not_tensors((inputs, kwargs)) if len(tensors) < len(expected) else ""
            raise InvalidInputError(
                f"Expected {len(expected)} inputs, got {len(tensors)} (the graph takes: {names}){hint}"
            )
        for tensor, meta in zip(tensors, expected, strict=True):
            self._check(tensor, meta)
            if tensor.is_meta:
                raise InvalidInputError(f"Input '{meta.name}' is on meta, so it has no data to run on")
        return tensors

    def _tensors(self, inputs: Any, kwargs: dict[str, Any]) -> list[Tensor]:
        if isinstance(inputs, Mapping):
            inputs, kwargs = (), {**inputs, **kwargs}
        if isinstance(inputs, Tensor):
            inputs = (inputs,)
        if not isinstance(inputs, (tuple, list)):
            raise InvalidInputError(f"Expected a tuple of inputs, a tensor or a dict, got {type(inputs).__name__}")
        if not kwargs and isinstance(inputs, (tuple, list)) and all(isinstance(x, Tensor) for x in inputs):
            return list(inputs)
        named = {t.name for t in self.ir.graph_inputs}
        if not inputs and set(kwargs) == named and all(isinstance(v, Tensor) for v in kwargs.values()):
            return [kwargs[t.name] for t in self.ir.graph_inputs]
        return self._by_structure(tuple(inputs), kwargs)

    def _by_structure(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        expected = self.ir.input_structure
        if expected is not None and kwargs:
            keys = expected["items"][1].get("keys", [])
            if not keys and not args:
                keys = [t.name for t in self.ir.graph_inputs]
            kwargs = self._ordered(kwargs, keys)
        if expected is None:
            leaves = pytree.tree_leaves((args, kwargs))
        else:
            positional, by_name = expected["items"]
            leaves = [*_leaves(args, positional, "inputs"), *_leaves(kwargs, by_name, "keyword inputs")]
        for i, leaf in enumerate(leaves):
            if not isinstance(leaf, (Tensor, bool, int, float, str, type(None))) and not _is_described(leaf):
                raise InvalidInputError(
                    f"Input {i}: expected a tensor, got {type(leaf).__name__}; convert it with torch.as_tensor"
                )
        if expected is not None:
            traced = list(leaf_entries(expected))
            if len(traced) == len(leaves):
                self._check_constants(traced, leaves)
        return [x for x in leaves if isinstance(x, Tensor)]

    def _ordered(self, kwargs: dict[str, Any], keys: list[str]) -> dict[str, Any]:
        unknown = [k for k in kwargs if k not in keys]
        missing = [k for k in keys if k not in kwargs]
        if unknown or missing:
            raise InvalidInputError(
                f"Keyword inputs do not match: missing {missing}, unknown {unknown}, expected {keys}"
            )
        return {k: kwargs[k] for k in keys}

    def _check_constants(self, traced: list[dict[str, Any]], leaves: list[Any]) -> None:
        for i, (entry, leaf) in enumerate(zip(traced, leaves, strict=True)):
            if "tensor" in entry or isinstance(leaf, Tensor):
                if ("tensor" in entry) != isinstance(leaf, Tensor):
                    raise InvalidInputError(f"Input {i}: got {type(leaf).__name__}, traced with {_describe(entry)}")
                continue
            value = decode_attr(entry["value"], "", "")
            if _is_described(leaf):
                leaf = repr(leaf)
            if type(value) is not type(leaf) or value != leaf:
                raise InvalidInputError(
                    f"Input {i} is {leaf!r}, but the graph was traced with {value!r} there; extract again with {leaf!r}"
                )

    def _check(self, tensor: Tensor, meta: TensorMeta) -> None:
        got, want = tuple(tensor.shape), tuple(meta.shape)
        free = 0 if self.strict else 1
        if len(got) != len(want) or got[free:] != want[free:]:
            extents = [*(["*"] if free and want else []), *want[free:]]
            raise InvalidInputError(
                f"Input '{meta.name}': got shape {list(got)}, expected [{', '.join(map(str, extents))}]"
                + (" (* is free)" if free and want else "")
                + "; shapes are those of the example inputs: compile or extract again with inputs of this shape"
            )
        if dtype_to_str(tensor.dtype) != meta.dtype:
            raise InvalidInputError(
                f"Input '{meta.name}': got dtype {dtype_to_str(tensor.dtype)}, expected {meta.dtype}; convert it with "
                f".to(torch.{meta.dtype})"
            )


def _leaves(value: Any, node: dict[str, Any], where: str) -> Iterator[Any]:
    """The leaves of an input in the order in which it was traced, whatever the order of the keys in its dicts."""
    children = None if "items" not in node else _children(value, node, where)
    if children is None:
        if any(isinstance(x, Mapping) for x in pytree.tree_leaves(value, is_leaf=lambda x: isinstance(x, Mapping))):
            kind = f"a {node['kind']} of {len(node['items'])}" if "items" in node else _describe(node)
            got = f"{type(value).__name__}" + (f" of {len(value)}" if isinstance(value, Sized) else "")
            raise InvalidInputError(f"The {where} do not match: got a {got}, traced with {kind}")
        yield from pytree.tree_leaves(value)
        return
    names = node.get("keys") or range(len(children))
    for name, child, inner in zip(names, children, node["items"], strict=True):
        yield from _leaves(child, inner, f"contents of {name!r} in the {where}")


def _children(value: Any, node: dict[str, Any], where: str) -> list[Any] | None:
    """What a container holds, in traced order. None if it is another container than in the trace."""
    keys, count = node.get("keys"), len(node["items"])
    if keys is not None and isinstance(value, Mapping):
        by_key = {k if isinstance(k, (str, int)) else repr(k): v for k, v in value.items()}
        if by_key.keys() == set(keys):
            return [by_key[k] for k in keys]
        if node["kind"] == "dict" and value:
            missing, unknown = [k for k in keys if k not in by_key], [k for k in by_key if k not in keys]
            raise InvalidInputError(f"The {where} do not match: missing {missing}, unknown {unknown}, expected {keys}")
    if isinstance(value, Mapping) and node["kind"] != "object":
        return None
    children = pytree.tree_leaves(value, is_leaf=lambda x: x is not value)
    return children if len(children) == count else None


def _not_tensors(given: Any) -> str:
    """Advice for nested lists of numbers that are passed instead of a tensor."""
    leaves = pytree.tree_leaves(given)
    if any(isinstance(x, (int, float)) for x in leaves) and not any(isinstance(x, Tensor) for x in leaves):
        return "; numbers and lists of them are no tensors: pass torch.tensor(...)"
    return ""


def _is_described(leaf: Any) -> bool:
    """Whether the trace keeps a constant of this type only as text."""
    return not hasattr(leaf, "__array__") and not isinstance(leaf, (bool, int, float, str, type(None), Tensor))


def _describe(entry: dict[str, Any]) -> str:
    return "a tensor" if "tensor" in entry else repr(entry.get("value"))
