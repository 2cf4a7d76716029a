"""The sizes of an exported program that are not fixed: their names and ranges, and expressions of them as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from npu_base.sizes import Size, is_name
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.export.dynamic_shapes import Dim

from .errors import ConversionError
from .parts import SizeRange

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
_INFINITE = 2**40
"""Programs have no larger extents."""


class Symbols:
    """``specs`` are the dynamic shapes of the inputs, in the order of the graph's placeholders."""

    def __init__(self, exported: ExportedProgram | None = None, specs: Iterable[Any] = ()) -> None:
        self.names: dict[str, str] = {}
        self.sizes: list[SizeRange] = []
        self.conditions: list[str] = []
        if exported is not None:
            self._name_symbols(exported, list(specs))
            self._read_conditions(exported)

    def size(self, value: Any) -> Any:
        """An int, or the expression of a symbolic size; None if it depends on data or has no name."""
        if not isinstance(value, _SYMBOLIC):
            return value
        expression = value.node.expr
        if getattr(expression, "is_Integer", False):
            return int(expression)
        if expression.free_symbols and {str(s) for s in expression.free_symbols} <= set(self.names):
            return Size(self.text(expression))
        return None

    def text(self, expression: Any) -> str:
        return _text(expression, self.names)

    def _name_symbols(self, exported: ExportedProgram, specs: list[Any]) -> None:
        given = [s.arg.name for s in exported.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
        values = {n.name: n.meta.get("val") for n in exported.graph.nodes if n.op == "placeholder"}
        by_itself: dict[str, bool] = {}  # whether no Dim has this symbol
        for name, spec in zip(given, specs, strict=False):
            if not isinstance(values.get(name), torch.Tensor):
                continue
            for axis, size in enumerate(values[name].shape):
                if isinstance(size, torch.SymInt):
                    dim = _entry(spec, axis)
                    for symbol in sorted(size.node.expr.free_symbols, key=str):
                        self._name(str(symbol), _dim_name(dim) or f"{name}_{axis}")
                        by_itself[str(symbol)] = by_itself.get(str(symbol), True) and not isinstance(dim, Dim)
        for symbol, limits in exported.range_constraints.items():
            if str(symbol) in self.names:
                low, high = max(0, int(limits.lower)), _bound(limits.upper)
                name = self.names[str(symbol)]
                if by_itself[str(symbol)]:  # nobody gave it a range: it is what the code needs
                    self.conditions += [f"({name} >= {low})"] * (low > 0) + [f"({name} <= {high})"] * (high is not None)
                self.sizes.append(SizeRange(name, low, high))
        self.sizes.sort(key=lambda s: list(self.names.values()).index(s.name))

    def _name(self, symbol: str, name: str) -> None:
        if symbol in self.names:
            return
        base, n = name if is_name(name) else f"size_{name}", 2
        unique = base
        while unique in self.names.values():
            unique, n = f"{base}_{n}", n + 1
        self.names[symbol] = unique

    def _read_conditions(self, exported: ExportedProgram) -> None:
        env = _shape_env(exported)
        for guard in env.guards if env is not None else ():
            expression = env.replace(guard.expr)
            if str(expression) == "True":
                continue
            symbols = {str(s) for s in expression.free_symbols}
            if symbols <= set(self.names):
                text = self.text(expression)
                if text not in self.conditions:
                    self.conditions.append(text)


def _shape_env(exported: ExportedProgram) -> Any:
    for node in exported.graph.nodes:
        value: Any = node.meta.get("val")
        if isinstance(value, FakeTensor):
            return value.fake_mode.shape_env
    return None


def _bound(limit: Any) -> int | None:
    try:
        value = int(limit)
    except (OverflowError, TypeError, ValueError, AttributeError):
        return None
    return None if value >= _INFINITE else value


def _entry(spec: Any, axis: int) -> Any:
    if isinstance(spec, Mapping):
        return spec.get(axis)
    return spec[axis] if isinstance(spec, (list, tuple)) and axis < len(spec) else None


def _dim_name(dim: Any) -> str | None:
    root = getattr(dim, "root", dim)
    name = getattr(root, "__name__", None)
    return name if isinstance(name, str) else None


def _infix(symbol: str) -> Callable[[list[str]], str]:
    return lambda args: "(" + f" {symbol} ".join(args) + ")"


def _call(name: str) -> Callable[[list[str]], str]:
    return lambda args: f"{name}({', '.join(args)})"


_FORMS: dict[str, Callable[[list[str]], str]] = {
    "Add": _infix("+"), "Mul": _infix("*"), "Pow": _infix("**"), "PowByNatural": _infix("**"),
    "FloatPow": _infix("**"), "FloorDiv": _infix("//"), "CleanDiv": _infix("//"), "Mod": _infix("%"),
    "PythonMod": _infix("%"), "FloatTrueDiv": _infix("/"), "IntTrueDiv": _infix("/"),
    "Equality": _infix("=="), "Unequality": _infix("!="), "StrictLessThan": _infix("<"), "LessThan": _infix("<="),
    "StrictGreaterThan": _infix(">"), "GreaterThan": _infix(">="), "Max": _call("max"), "Min": _call("min"),
    "ToFloat": _call("float"), "TruncToInt": _call("trunc"), "FloorToInt": _call("floor"), "floor": _call("floor"),
    "CeilToInt": _call("ceil"), "ceiling": _call("ceil"), "RoundToInt": _call("round"), "Abs": _call("abs"),
    "TruncToFloat": lambda args: f"float(trunc({args[0]}))", "And": _call("all"), "Or": _call("any"),
    "Not": _call("invert"), "Where": _call("where"),
    "ModularIndexing": lambda args: f"(({args[0]} // {args[1]}) % {args[2]})",
}  # fmt: skip


def _text(expression: Any, names: Mapping[str, str]) -> str:
    if expression.is_Symbol:
        return names[str(expression)]
    if expression.is_Integer:
        return str(int(expression)) if expression >= 0 else f"(-{-int(expression)})"
    if expression.is_Rational:
        return (
            f"({int(expression.p)} / {int(expression.q)})" if expression.p >= 0 else f"(-({_text(-expression, names)}))"
        )
    if expression.is_Float:
        return repr(float(expression)) if expression >= 0 else f"(-{-float(expression)!r})"
    kind = type(expression).__name__
    if kind.startswith("OpaqueUnaryFn_"):
        form = _call(kind.removeprefix("OpaqueUnaryFn_"))
    elif kind in _FORMS:
        form = _FORMS[kind]
    else:
        raise ConversionError(f"A size of the model is {expression}; {kind} cannot be written in an IR")
    return form([_text(a, names) for a in expression.args])
