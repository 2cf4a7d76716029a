"""What the open sizes of a model may be, what sizes inputs have, and the IR of one size as a dict. Without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npu_base.arguments import Spec
from npu_base.errors import InvalidValueError, NPUError
from npu_base.sizes import Size, SizeError, evaluate, free_names

__all__ = ["SizeRange", "SizeRules", "fixed_ir"]


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


class SizeRules:
    """``inputs`` have expressions in their shapes. ``conditions`` hold for the sizes, beside their ranges."""

    def __init__(
        self,
        model_name: str,
        inputs: Sequence[Spec],
        sizes: Sequence[SizeRange],
        conditions: Sequence[str],
        error: type[NPUError] = InvalidValueError,
    ) -> None:
        self.model_name, self.inputs, self.sizes = model_name, inputs, sizes
        self.conditions, self.error = conditions, error

    def check(self, values: Mapping[str, Any]) -> None:
        known = [s.name for s in self.sizes]
        unknown = [name for name in values if name not in known]
        missing = [name for name in known if name not in values]
        if unknown or missing:
            raise self.error(f"Sizes of '{self.model_name}': missing {missing}, unknown {unknown}, expected {known}")
        for size in self.sizes:
            value = values[size.name]
            if type(value) is not int:
                raise self.error(f"Size '{size.name}': expected an int, got {value!r}")
            if value < size.least or (size.most is not None and value > size.most):
                self._check_code(values, [c for c in self.conditions if set(free_names(c)) == {size.name}])
                limits = f"at least {size.least}" if size.most is None else f"{size.least} to {size.most}"
                raise self.error(
                    f"Size '{size.name}'{self._where(size.name)} is {value}, expected {limits}, its range in "
                    f"dynamic_shapes or --size; extract or compile again with a larger range"
                )
        self._check_code(values, self.conditions)

    def _check_code(self, values: Mapping[str, Any], conditions: Sequence[str]) -> None:
        for condition in conditions:
            if not self.value(condition, values):
                names = sorted(free_names(condition))
                got = ", ".join(f"{name}={values[name]}{self._where(name)}" for name in names)
                raise self.error(
                    f"'{self.model_name}' has this graph only for sizes with {condition}, because of its code; "
                    f"got {got}"
                )

    def value(self, text: str, values: Mapping[str, int]) -> Any:
        try:
            return evaluate(text, values)
        except SizeError as error:
            raise self.error(str(error)) from error

    def shapes(self, values: Mapping[str, int]) -> tuple[tuple[int, ...], ...]:
        """Of the inputs, for these sizes."""
        return tuple(
            tuple(self.value(n.text, values) if isinstance(n, Size) else n for n in spec.shape) for spec in self.inputs
        )

    def sizes_of(self, shapes: Any, given: Mapping[str, int] | None = None) -> dict[str, int]:
        """The sizes of inputs with these shapes, by name or in order. ``given`` are known already."""
        values = self._solved_from(self._by_name(shapes), given or {})
        self.check(values)
        return values

    def _where(self, name: str) -> str:
        """Where a size is an input's."""
        axes = ((t.name, axis, str(size)) for t in self.inputs for axis, size in enumerate(t.shape))
        return next((f" (dimension {axis} of '{of}')" for of, axis, text in axes if text == name), "")

    def _by_name(self, shapes: Any) -> dict[str, tuple[int, ...]]:
        names = [t.name for t in self.inputs]
        if isinstance(shapes, Mapping):
            given = dict(shapes)
            unknown = sorted(set(given) - set(names))
            if unknown:
                raise self.error(f"Shapes of unknown inputs {unknown}; the graph takes {names}")
        elif isinstance(shapes, Sequence) and not isinstance(shapes, str):
            if len(shapes) != len(names):
                raise self.error(f"Expected the shapes of {len(names)} inputs, got {len(shapes)}")
            given = dict(zip(names, shapes, strict=True))
        else:
            raise self.error(f"Expected shapes by input name or in order, got {type(shapes).__name__}")
        return {name: tuple(getattr(s, "shape", s)) for name, s in given.items()}

    def _solved_from(self, shapes: Mapping[str, tuple[int, ...]], given: Mapping[str, int]) -> dict[str, int]:
        values = dict(given)
        pairs: list[tuple[str, int, Any, int]] = []
        for meta in self.inputs:
            if meta.name not in shapes:
                continue
            got = shapes[meta.name]
            if len(got) != len(meta.shape):
                raise self.error(f"Input '{meta.name}': got shape {list(got)}, expected {list(meta.shape)}")
            pairs += [(meta.name, axis, want, n) for axis, (want, n) in enumerate(zip(meta.shape, got, strict=True))]
        for _, _, want, n in pairs:
            if isinstance(want, Size) and len(names := free_names(want.text)) == 1:
                (name,) = names
                values.setdefault(name, n if want.text == name else _solved(want, name, n))
        for name, axis, want, n in pairs:
            expected = want
            if isinstance(want, Size):
                if not free_names(want.text) <= set(values):
                    continue
                expected = self.value(want.text, values)
            if expected != n:
                text = f"{expected}, because this dimension is not open"
                if isinstance(want, Size):
                    text = f"{expected} {want}" if want.text.startswith("(") else f"{expected} ({want})"
                raise self.error(f"Input '{name}': dimension {axis} is {n}, expected {text}")
        return values


def _solved(want: Size, name: str, n: int) -> int:
    """The value of a size in an expression a * size + b; a wrong one is noticed by the caller."""
    at_zero, at_one = want.evaluate({name: 0}), want.evaluate({name: 1})
    slope = at_one - at_zero
    return int((n - at_zero) // slope) if slope else 0


def fixed_ir(ir: Mapping[str, Any], values: Mapping[str, int]) -> tuple[dict[str, Any], int]:
    """The dict of an IR of one size, and the least extent that an expression has in it.

    PyTorch's rules for extents in general hold for those of at least 2: below, operators may do something else.
    """
    sizes = _Fixing(values)
    return sizes.graph(ir), sizes.least


class _Fixing:
    def __init__(self, values: Mapping[str, int]) -> None:
        self.values, self.least = values, 2
        self.known: dict[str, Any] = {}

    def graph(self, ir: Mapping[str, Any]) -> dict[str, Any]:
        fixed = {key: value for key, value in ir.items() if key not in ("sizes", "conditions")}
        fixed["schema_version"] = 2
        for key in ("graph_inputs", "graph_outputs"):
            fixed[key] = [self.meta(t) for t in ir[key]]
        fixed["nodes"] = [self.node(node) for node in ir["nodes"]]
        if "mutations" in ir:
            fixed["mutations"] = [{**m, "value": self.meta(m["value"])} for m in ir["mutations"]]
        if "subgraphs" in ir:
            fixed["subgraphs"] = {name: self.graph(body) for name, body in ir["subgraphs"].items()}
        return fixed

    def node(self, node: Mapping[str, Any]) -> dict[str, Any]:
        inputs, outputs = ([self.meta(t) for t in node[key]] for key in ("inputs", "outputs"))
        attrs = {name: self.attr(value) for name, value in (node.get("attrs") or {}).items()}
        return {**node, "inputs": inputs, "outputs": outputs, "attrs": attrs}

    def meta(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        shape = [self.value(n) if isinstance(n, str) else n for n in meta["shape"]]
        self.least = min([self.least, *(n for n, text in zip(shape, meta["shape"], strict=True) if text is not n)])
        return {**meta, "shape": shape}

    def attr(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.attr(v) for v in value]
        if not isinstance(value, Mapping):
            return value
        if list(value) == ["$size"]:
            return self.value(value["$size"])
        return {name: self.attr(inner) for name, inner in value.items()}

    def value(self, text: str) -> Any:
        if text not in self.known:
            self.known[text] = evaluate(text, self.values)
        return self.known[text]
