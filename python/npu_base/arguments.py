"""Brings the arguments of a call into the order of a model's inputs, and checks them. Without PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, ClassVar, Protocol

from npu_base.errors import InvalidValueError, NPUError
from npu_base.nesting import is_encoded, key_of, leaf_entries, rebuild, traced_names

__all__ = ["ArgumentBinder", "Spec", "is_tensor", "masked_elements", "tensor_dtype"]

_AXES = {0: "batch"}
_PLAIN = (bool, int, float, str, type(None))


class _LeftOut:
    """Stands for a constant that the caller did not pass."""


_LEFT_OUT = _LeftOut()


class Spec(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Sequence[int]: ...
    @property
    def dtype(self) -> str: ...


def is_tensor(value: Any) -> bool:
    """Of NumPy, PyTorch, ours, or another library that speaks DLPack."""
    return hasattr(value, "__dlpack__") and hasattr(value, "shape") and hasattr(value, "dtype")


def _is_same_constant(traced: Any, given: Any) -> bool:
    if type(traced) is not type(given):
        return False
    # NaN is the constant that the graph has, and -0.0 another one than 0.0.
    return repr(traced) == repr(given) if isinstance(traced, float | complex) else bool(traced == given)


def tensor_dtype(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def masked_elements(value: Any) -> int:
    """How many elements a masked array of NumPy hides; what reads its memory would not know."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ma.MaskedArray):
        return 0
    return int(numpy.ma.count_masked(value))


class ArgumentBinder:
    """``inputs`` and ``structure`` are what a model was traced with, ``parameters`` the names of ``forward``'s
    positional parameters, if they are known. The tensors alone, in order, stand for any nesting of them. ``defaults``
    has the default values of parameters that the example inputs left out.

    Layers with PyTorch override what is known about tensors and containers.
    """

    error: ClassVar[type[NPUError]] = InvalidValueError
    area = "[run] "
    conversion = "pass a NumPy array or torch.tensor(...)"

    def __init__(
        self,
        inputs: Sequence[Spec],
        structure: Any,
        parameters: Sequence[str] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.inputs, self.structure, self.parameters = inputs, structure, list(parameters)
        self.defaults = {} if structure is None else dict(defaults or {})
        self.names = [spec.name for spec in inputs]
        self.is_positional = structure is None or not self.parameters or self._is_positional()
        """Whether tensors by position mean the inputs in their order, as they would to ``forward``."""

    def _is_positional(self) -> bool:
        positional, by_name = self.structure["items"]
        names = traced_names(self.structure, self.parameters)
        items = [*positional["items"], *by_name["items"]]
        skips = False
        for i, (name, item) in enumerate(zip(names, items, strict=False)):
            if not _has_tensors(item):
                skips = skips or name in self.parameters
            elif skips or (self.parameters.index(name) != i if name in self.parameters else i < len(self.parameters)):
                return False  # to forward, this position is another parameter's
        return True

    def is_tensor(self, value: Any) -> bool:
        return is_tensor(value)

    def contents(self, value: Any) -> list[Any] | None:
        """What a container holds; None for anything else."""
        if isinstance(value, Mapping):
            return list(value.values())
        return list(value) if isinstance(value, (tuple, list)) else None

    def decode(self, value: Any) -> Any:
        return value

    def free_axes(self) -> int:
        """How many leading axes may have any size."""
        return 0

    def bind(self, inputs: Any, kwargs: Mapping[str, Any]) -> list[Any]:
        tensors = self._tensors(inputs, dict(kwargs))
        if len(tensors) != len(self.inputs):
            names = ", ".join(self.names)
            few = len(tensors) < len(self.inputs)
            hint = self._not_tensors((inputs, kwargs)) if few else self._left_out(self.parameters[: len(tensors)])
            self.refuse(f"Expected {len(self.inputs)} inputs, got {len(tensors)} (the graph takes: {names}){hint}")
        for tensor, spec in zip(tensors, self.inputs, strict=True):
            self.check(tensor, spec)
        return tensors

    def refuse(self, message: str) -> Any:
        raise self.error(self.area + message)

    def _tensors(self, inputs: Any, kwargs: dict[str, Any]) -> list[Any]:
        if isinstance(inputs, Mapping):
            inputs, kwargs = (), {**inputs, **kwargs}
        if self.is_tensor(inputs):
            inputs = (inputs,)
        if not isinstance(inputs, (tuple, list)):
            self.refuse(f"Expected a tuple of inputs, a tensor or a dict, got {type(inputs).__name__}")
        if self.defaults:
            inputs, kwargs = self._without_defaults(inputs, kwargs)
        if not kwargs and self.is_positional and all(map(self.is_tensor, inputs)):
            return list(inputs)
        if not inputs and set(kwargs) == set(self.names) and all(map(self.is_tensor, kwargs.values())):
            return [kwargs[name] for name in self.names]
        return self._by_structure(tuple(inputs), kwargs)

    def _without_defaults(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Without arguments that the example inputs left out and that have their default values, as in the trace."""
        count = len(self.structure["items"][0]["items"])
        positions = self.parameters[count:] if len(args) <= len(self.parameters) else []
        left: list[Any] = [*args[:count]] if positions else list(args)
        by_name: dict[str, Any] = {}
        for name, value in zip(positions, args[count:], strict=False):
            if name in kwargs:
                self.refuse(f"Inputs {[name]} come twice, by position and by name")
            if self._is_default(name, value):
                by_name = by_name or {name: _LEFT_OUT}  # those behind it are passed by name
            elif by_name:
                by_name[name] = value
            else:
                left.append(value)
        kept = {name: value for name, value in kwargs.items() if not self._is_default(name, value)}
        return tuple(left), {**{n: v for n, v in by_name.items() if v is not _LEFT_OUT}, **kept}

    def _is_default(self, name: str, value: Any) -> bool:
        """Refuses another constant than the default."""
        if name not in self.defaults or self.is_tensor(value) or self.contents(value) is not None:
            return False
        default = self.defaults[name]
        if is_encoded(default):
            default = self.decode(default)
        if not _is_same_constant(default, value):
            self.refuse(
                f"Input '{name}' is {value!r:.60}, but the graph was traced with its default, {default!r}"
                f"{self._left_out([name])}"
            )
        return True

    def _by_structure(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        if self.structure is None:
            leaves = [*self._flat(args), *self._flat(kwargs)]
        else:
            args, kwargs = self._as_traced(args, kwargs)
            positional, by_name = self.structure["items"]
            leaves = [*self._leaves(args, positional, "inputs"), *self._leaves(kwargs, by_name, "keyword inputs")]
        for i, leaf in enumerate(leaves):
            if not self.is_tensor(leaf) and not isinstance(leaf, _PLAIN) and not _is_described(leaf):
                self.refuse(f"Input {i}: expected a tensor, got {type(leaf).__name__}; {self.conversion}")
        if self.structure is not None:
            self._check_leaves(list(leaf_entries(self.structure)), leaves)
        return [leaf for leaf in leaves if self.is_tensor(leaf)]

    def _as_traced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments by position and by name as they were in the trace, whichever way they come."""
        positional, by_name = self.structure["items"]
        count, keys = len(positional["items"]), list(by_name.get("keys", []))
        wanted = traced_names(self.structure, self.parameters)
        by_parameter = dict(zip(self.parameters, args, strict=False))
        twice = [name for name in by_parameter if name in kwargs]
        if twice:
            self.refuse(f"Inputs {twice} come twice, by position and by name")
        given = {**by_parameter, **kwargs}
        constants: dict[str, Any] = {}
        if len(wanted) == count + len(keys):
            items = zip(wanted, [*positional["items"], *by_name["items"]], strict=True)
            constants = {n: rebuild(item, (), lambda _: _LEFT_OUT) for n, item in items if not _has_tensors(item)}
            filled = {**constants, **given}
            if len(given) == len(args) + len(kwargs) and set(filled) == set(wanted):
                return tuple(filled[name] for name in wanted[:count]), {key: filled[key] for key in keys}
        if not self.parameters:
            given, wanted = kwargs, keys or ([] if args else self.names)
        unknown = [k for k in given if k not in wanted]
        missing = [k for k in wanted if k not in given and k not in constants]
        if ((kwargs or keys) and (unknown or missing)) or not self.is_positional:
            hint = self._left_out(unknown)
            self.refuse(f"Keyword inputs do not match: missing {missing}, unknown {unknown}, expected {wanted}{hint}")
        given = {**constants, **kwargs}
        return args, {key: given[key] for key in keys if key in given}

    def _left_out(self, names: Iterable[str]) -> str:
        """What to do about those of ``names`` that ``forward`` takes and the example inputs did not have."""
        if self.structure is None:
            return ""
        traced = traced_names(self.structure, self.parameters)
        left_out = [name for name in names if name in self.parameters and name not in traced]
        if not left_out:
            return ""
        return f"; the example inputs had no {', '.join(map(repr, left_out))}: compile with an example that has it"

    def _leaves(self, value: Any, node: dict[str, Any], where: str) -> Iterator[Any]:
        """In the order of the trace, whatever the order of the keys in dicts."""
        children = None if "items" not in node else self._children(value, node, where)
        if children is None:
            if self._has_mapping(value):
                kind = f"a {node['kind']} of {len(node['items'])}" if "items" in node else _describe(node)
                got = f"{type(value).__name__}" + (f" of {len(value)}" if isinstance(value, Sized) else "")
                self.refuse(f"The {where} do not match: got a {got}, traced with {kind}")
            yield from self._flat(value)
            return
        names = node.get("keys") or range(len(children))
        for name, child, inner in zip(names, children, node["items"], strict=True):
            yield from self._leaves(child, inner, f"contents of {name!r} in the {where}")

    def _children(self, value: Any, node: dict[str, Any], where: str) -> list[Any] | None:
        """What a container holds, in traced order. None if it is another container than in the trace."""
        keys, count = node.get("keys"), len(node["items"])
        if keys is not None and isinstance(value, Mapping):
            by_key = {key_of(k): v for k, v in value.items()}
            if by_key.keys() == set(keys):
                return [by_key[k] for k in keys]
            if node["kind"] == "dict" and value:
                missing, unknown = [k for k in keys if k not in by_key], [k for k in by_key if k not in keys]
                self.refuse(f"The {where} do not match: missing {missing}, unknown {unknown}, expected {keys}")
        if isinstance(value, Mapping) and node["kind"] != "object":
            return None
        children = self.contents(value)
        if children is None and keys and node["kind"] == "object" and all(hasattr(value, str(k)) for k in keys):
            children = [getattr(value, str(key)) for key in keys]
        return children if children is not None and len(children) == count else None

    def _flat(self, value: Any) -> Iterator[Any]:
        children = None if self.is_tensor(value) else self.contents(value)
        if children is None:
            yield value
            return
        for child in children:
            yield from self._flat(child)

    def _has_mapping(self, value: Any) -> bool:
        if isinstance(value, Mapping):
            return True
        children = None if self.is_tensor(value) else self.contents(value)
        return children is not None and any(map(self._has_mapping, children))

    def _check_leaves(self, traced: list[dict[str, Any]], leaves: list[Any]) -> None:
        """Constants that are left out keep their value; those that come must be the example's."""
        given = [i for i, x in enumerate(leaves) if x is not None and x is not _LEFT_OUT and not self.is_tensor(x)]
        alike = all(("tensor" in a) == self.is_tensor(b) for a, b in zip(traced, leaves, strict=False))
        if len(traced) == len(leaves) or (given and alike and len(leaves) < len(traced)):
            self._check_constants(traced[: len(leaves)], leaves)
        elif given and sum(x is not _LEFT_OUT for x in leaves) - len(given) >= len(self.inputs):
            example = ", ".join(map(_describe, traced))
            i = given[-1] if len(leaves) > len(traced) else given[0]
            self.refuse(
                f"Input {i} is {leaves[i]!r}, which the example inputs did not have there: they were ({example}); "
                f"extract or compile again with it"
            )

    def _check_constants(self, traced: list[dict[str, Any]], leaves: list[Any]) -> None:
        for i, (entry, leaf) in enumerate(zip(traced, leaves, strict=True)):
            if "tensor" in entry or self.is_tensor(leaf):
                if ("tensor" in entry) != self.is_tensor(leaf):
                    self.refuse(f"Input {i}: got {type(leaf).__name__}, traced with {_describe(entry)}")
                continue
            if leaf is _LEFT_OUT:
                continue
            value = entry["value"]
            if is_encoded(value):
                value = self.decode(value)
            if _is_described(leaf) and type(leaf) is not type(value):
                leaf = repr(leaf)
            if not _is_same_constant(value, leaf):
                self.refuse(
                    f"Input {i} is {leaf!r}, but the graph was traced with {value!r} there; extract or compile again "
                    f"with {leaf!r}"
                )

    def check(self, tensor: Any, spec: Spec) -> None:
        got, want, free = tuple(tensor.shape), tuple(spec.shape), self.free_axes()
        if len(got) != len(want) or got[free:] != want[free:]:
            extents = [*(["*"] if free and want else []), *want[free:]]
            self.refuse(
                f"Input '{spec.name}': got shape {list(got)}, expected [{', '.join(map(str, extents))}]"
                + (" (* is free)" if free and want else "")
                + "; shapes are those of the example inputs: compile or extract again with inputs of this shape"
                + _how_to_open(spec.name, got, want)
            )
        dtype = tensor_dtype(tensor)
        if dtype != spec.dtype:
            theirs = str(tensor.dtype).startswith("torch.")
            conversion = f".to(torch.{spec.dtype})" if theirs else f'.astype("{spec.dtype}")'
            self.refuse(f"Input '{spec.name}': got dtype {dtype}, expected {spec.dtype}; convert it with {conversion}")
        if masked := masked_elements(tensor):
            self.refuse(
                f"Input '{spec.name}': {masked} of its {tensor.size} elements are masked, and a model would read what "
                f"is behind the mask; give values to them with .filled(...)"
            )

    def _not_tensors(self, given: Any) -> str:
        """Advice for nested lists of numbers that are passed instead of a tensor."""
        leaves = list(self._flat(given))
        if any(isinstance(x, (int, float)) for x in leaves) and not any(map(self.is_tensor, leaves)):
            return f"; numbers and lists of them are no tensors: {self.conversion}"
        return ""


def _has_tensors(node: dict[str, Any]) -> bool:
    return any("tensor" in entry for entry in leaf_entries(node))


def _is_described(leaf: Any) -> bool:
    """Whether the trace keeps a constant of this type only as text."""
    return not hasattr(leaf, "__array__") and not isinstance(leaf, _PLAIN) and not is_tensor(leaf)


def _how_to_open(name: str, got: Sequence[int], want: Sequence[Any]) -> str:
    if len(got) != len(want):
        return ""
    axes = [axis for axis, (a, b) in enumerate(zip(got, want, strict=True)) if a != b]
    dims = ", ".join(f"{axis}: torch.export.Dim('{_AXES.get(axis, f'size_{axis}')}')" for axis in axes)
    which = "this size" if len(axes) == 1 else "these sizes"
    return f", or with dynamic_shapes={{'{name}': {{{dims}}}}}, which leaves {which} open"


def _describe(entry: dict[str, Any]) -> str:
    return "a tensor" if "tensor" in entry else repr(entry.get("value"))
