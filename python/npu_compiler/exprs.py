"""Expressions of `map` and of epilogues, built from text such as ``"self + other * alpha"``."""

from __future__ import annotations

import ast
import difflib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
from npu_base.errors import InvalidValueError

from .errors import Unsupported
from .opset import EXPRESSION_OPS

__all__ = ["DECIDING", "Expression", "Step", "as_stored", "class_of", "classes_of", "number"]

Step = list[Any]
_BINARY: dict[type, str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.BitAnd: "and", ast.BitOr: "or",
    ast.BitXor: "xor", ast.LShift: "shl", ast.RShift: "shr", ast.FloorDiv: "idiv_floor", ast.Mod: "irem_floor",
}  # fmt: skip
_COMPARE: dict[type, str] = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq", ast.NotEq: "ne"}
_OPERATORS = "+ - * / // % & | ^ << >>"
_FOLD: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def class_of(dtype: str) -> str:
    return "b" if dtype == "bool" else "f" if "float" in dtype else "i"


DECIDING = frozenset("eq ne lt le gt ge isnan isinf sign floor ceil round trunc fmod".split())
"""Discontinuous steps: the last bit of an operand can change all of the result. So can casts to integers and bools."""

_HALVES: dict[str, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}

_FOLDED: dict[str, Callable[..., Any]] = {
    "abs": abs, "neg": operator.neg, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "eq": operator.eq, "ne": operator.ne,
}  # fmt: skip
"""Steps whose result for constants is exact."""


def as_stored(value: float, dtype: str) -> float:
    """The number as a tensor of that dtype stores it. Floats are rounded to float32 first. For integer dtypes, integers
    wrap, floats are truncated and saturate, and NaN gives 0."""
    cls = class_of(dtype)
    if cls == "b":
        return bool(value)
    if cls == "f":
        with np.errstate(over="ignore"):
            return float(np.float32(value).astype(_HALVES.get(dtype, np.float32)))
    limits = np.iinfo(dtype)
    if isinstance(value, float):
        if math.isnan(value):
            return 0
        return int(min(max(value, limits.min), limits.max))
    low, high = int(limits.min), int(limits.max)
    return (int(value) - low) % (high - low + 1) + low


def _holds(dtype: str, other: str) -> bool:
    """Whether ``dtype`` can represent every integer of ``other``."""
    have, want = np.iinfo(dtype), np.iinfo(other)
    return bool(have.min <= want.min and want.max <= have.max)


def number(value: float) -> float | str:
    """A number as JSON can store it."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def classes_of(steps: Sequence[Step], operands: Sequence[str]) -> list[str]:
    """The register class of every step. Raises ValueError if a step is ill-typed."""
    classes: list[str] = []
    for at, (name, *args) in enumerate(steps):
        if name == "in":
            classes.append(operands[args[0]])
            continue
        if name == "const":
            classes.append(args[1])
            continue
        read = args[:1] if name == "cast" else args
        if read and (min(read) < 0 or max(read) >= at):
            raise ValueError(f"step {at} reads a later one")
        classes.append(class_of(args[1]) if name == "cast" else _gives(name, [classes[a] for a in args], at))
    return classes


def _gives(name: str, got: list[str], at: int) -> str:
    given = _class_given(name, *got)
    if given is None:
        raise ValueError(f"step {at}: '{name}' takes {EXPRESSION_OPS[name].takes}, got {''.join(got)}")
    return given


@lru_cache(maxsize=1024)
def _class_given(name: str, *got: str) -> str | None:
    """The class of a step for operands of these classes, or None if it does not take them."""
    rule = EXPRESSION_OPS[name]
    bound: dict[str, str] = {}
    for want, have in zip(rule.takes, got, strict=True):
        fits = have == want or (want == "n" and have in "fi") or want == "a"
        if not fits or (want in "na" and bound.setdefault(want, have) != have):
            return None
    return bound.get(rule.gives, rule.gives)


@lru_cache(maxsize=1024)
def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise InvalidValueError(f"the formula '{text.strip()}' is not an expression: {error.msg}") from None


def _is_known(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return type(node.op) in _BINARY
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub | ast.Not)
    if isinstance(node, ast.Compare):
        return len(node.ops) == 1 and type(node.ops[0]) in _COMPARE
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and not node.keywords
    return isinstance(node, ast.Name | ast.Constant | ast.IfExp | ast.BoolOp)


class Expression:
    """An expression under construction. Equal steps are added once. Numbers take the class of other operands."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.classes: list[str] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._text = ""
        self._rounds_to = "float32"

    def _add(self, step: Step, cls: str) -> int:
        key = (*step, *map(type, step)) if step[0] != "const" else ("const", repr(step[1]), type(step[1]), step[2])
        if key not in self._known:
            self._known[key] = len(self.steps)
            self.steps.append(step)
            self.classes.append(cls)
        return self._known[key]

    def load(self, k: int, cls: str) -> int:
        return self._add(["in", k], cls)

    def const(self, value: float, cls: str) -> int:
        if cls == "b":
            return self._add(["const", int(bool(value)), "b"], "b")
        if cls == "i" and not -(2**63) <= value < 2**63:
            raise Unsupported(f"the number {value}, beyond 64 bits")
        return self._add(["const", number(float(value)) if cls == "f" else int(value), cls], cls)

    def cast(self, step: int, dtype: str) -> int:
        operand = self.steps[step]
        if operand[0] == "cast" and operand[2] == dtype:
            return step
        if operand[0] == "const":
            return self.const(as_stored(self._value(step), dtype), class_of(dtype))
        return self._add(["cast", step, dtype], class_of(dtype))

    def _value(self, step: int) -> float:
        """The value of a constant. Floats are in float32, as in registers."""
        value = self.steps[step][1]
        return as_stored(float(value), "float32") if self.classes[step] == "f" else value

    def convert(self, step: int, have: str, want: str) -> int:
        """Converts from dtype ``have`` to ``want``: a cast, unless it could not change the value."""
        if have == want:
            return step
        cls, new = class_of(have), class_of(want)
        if "b" in (cls, new):
            return self.to_class(step, new)
        return step if cls == new == "i" and _holds(want, have) else self.cast(step, want)

    def to_class(self, step: int, cls: str) -> int:
        if self.classes[step] == cls:
            return step
        return self.cast(step, {"f": "float32", "i": "int64", "b": "bool"}[cls])

    def op(self, name: str, *args: int) -> int:
        if name in ("land", "lor") and any(self.classes[a] == "b" and self.steps[a][0] == "const" for a in args):
            known, other = sorted(args, key=lambda a: self.steps[a][0] != "const")
            return other if bool(self.steps[known][1]) == (name == "land") else known
        if name == "where" and self.steps[args[0]][0] == "const":
            return args[1] if self.steps[args[0]][1] else args[2]
        if name in _FOLDED and all(self.steps[a][0] == "const" for a in args):
            value = _FOLDED[name](*(self._value(a) for a in args))
            return self.const(value, "b" if isinstance(value, bool) else self.classes[args[0]])
        if name == "ne" and args[0] == args[1] and self.classes[args[0]] != "f":
            return self.const(0, "b")
        got = [self.classes[a] for a in args]
        try:
            return self._add([name, *args], _gives(name, got, len(self.steps)))
        except ValueError:
            raise Unsupported(f"'{name}' is not defined for operands of class {', '.join(got)}") from None

    def inline(self, steps: Sequence[Step], loads: Mapping[int, int]) -> int:
        """Appends another expression whose operands are the steps ``loads``. Returns the step of its result."""
        at: list[int] = []
        for name, *args in steps:
            if name == "in":
                at.append(loads[args[0]])
            elif name == "const":
                at.append(self._add([name, *args], args[1]))
            elif name == "cast":
                at.append(self.cast(at[args[0]], args[1]))
            else:
                at.append(self.op(name, *(at[a] for a in args)))
        return at[-1]

    def finish(self, result: int) -> list[Step]:
        """The steps that the result needs, with the result as the last one."""
        order: list[int] = []
        seen: set[int] = set()

        def visit(i: int) -> None:
            if i in seen:
                return
            seen.add(i)
            for a in self._args(self.steps[i]):
                visit(a)
            order.append(i)

        visit(result)
        renumbered = {old: new for new, old in enumerate(order)}
        return [self._renumber(self.steps[i], renumbered) for i in order]

    @staticmethod
    def _args(step: Step) -> list[int]:
        return [] if step[0] in ("in", "const") else step[1:2] if step[0] == "cast" else step[1:]

    def _renumber(self, step: Step, renumbered: dict[int, int]) -> Step:
        if step[0] in ("in", "const"):
            return list(step)
        if step[0] == "cast":
            return ["cast", renumbered[step[1]], step[2]]
        return [step[0], *(renumbered[a] for a in step[1:])]

    def eval(self, text: str, names: Mapping[str, int | float | Ref], dtype: str = "float32") -> int:
        """``names`` maps names to numbers, or to steps as ``Ref``. ``rounded(x)`` is x rounded as a tensor of ``dtype``
        would store it."""
        self._text, self._rounds_to = text.strip(), dtype
        value = self._eval(_parse(text), names)
        return self._step(value, "i" if isinstance(value, int) and not isinstance(value, bool) else "f")

    def _step(self, value: Any, cls: str) -> int:
        return value.step if isinstance(value, Ref) else self.const(value, cls)

    def _steps(self, values: Sequence[Any]) -> list[int]:
        """Numbers get the class of the other operands, or of the dtype that is computed in."""
        alone = "i" if class_of(self._rounds_to) == "i" else "f"
        cls = next((self.classes[v.step] for v in values if isinstance(v, Ref)), alone)
        if cls == "i" and any(isinstance(v, float) and v != int(v) for v in values if not isinstance(v, Ref)):
            raise Unsupported("a fraction among integers")
        return [self._step(v, cls) for v in values]

    def _eval(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        if not _is_known(node):
            raise self._error(
                f"'{ast.unparse(node)}'",
                "names, numbers, calls such as pow(x, y), one comparison at a time, 'x if c else y', 'and', 'or', "
                f"'not' and the operators {_OPERATORS}",
            )
        if isinstance(node, ast.Name):
            return self._named(node.id, names)
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.UnaryOp):
            value = self._eval(node.operand, names)
            if not isinstance(value, Ref):
                return -value
            return Ref(self.op("lnot" if isinstance(node.op, ast.Not) else "neg", value.step))
        if isinstance(node, ast.IfExp):
            test = self._eval(node.test, names)
            return Ref(
                self.op("where", test.step, *self._steps([self._eval(e, names) for e in (node.body, node.orelse)]))
            )
        if isinstance(node, ast.BinOp):
            return self._binary(type(node.op), self._eval(node.left, names), self._eval(node.right, names))
        if isinstance(node, ast.Compare):
            sides = self._steps([self._eval(node.left, names), self._eval(node.comparators[0], names)])
            return Ref(self.op(_COMPARE[type(node.ops[0])], *sides))
        if isinstance(node, ast.BoolOp):
            sides = [self._eval(v, names).step for v in node.values]
            result = sides[0]
            for side in sides[1:]:
                result = self.op("land" if isinstance(node.op, ast.And) else "lor", result, side)
            return Ref(result)
        assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        return self._call(node.func.id, [self._eval(a, names) for a in node.args])

    def _named(self, name: str, names: Mapping[str, Any]) -> Any:
        if name not in names:
            raise self._error(f"the unknown name '{name}'", f"one of {', '.join(sorted(names)) or 'no names'}")
        value = names[name]
        if not isinstance(value, Ref | int | float):
            raise self._error(f"'{name}', which is {value!r:.60}", "a tensor of the builder or a number")
        return value

    def _error(self, contents: str, expected: str) -> InvalidValueError:
        return InvalidValueError(f"the formula '{self._text}' contains {contents}; expected {expected}")

    def _binary(self, kind: type, left: Any, right: Any) -> Any:
        if not isinstance(left, Ref) and not isinstance(right, Ref):
            return _FOLD[kind](left, right)
        if kind is ast.Mult and (right == 1 or left == 1):
            return left if right == 1 else right
        return Ref(self.op(_BINARY[kind], *self._steps([left, right])))

    def _call(self, name: str, args: list[Any]) -> Any:
        if name in ("float32", "bool", "int64"):
            return Ref(self.to_class(self._step(args[0], "f"), class_of(name)))
        if name == "rounded":
            if self._rounds_to not in _HALVES:
                return args[0]
            return Ref(self.cast(self._step(args[0], "f"), self._rounds_to))
        if name not in EXPRESSION_OPS:
            close = difflib.get_close_matches(name, EXPRESSION_OPS, n=1)
            raise self._error(
                f"the unknown function '{name}'",
                "a step of an expression" + (f", such as '{close[0]}'" if close else " (docs/program-format.md)"),
            )
        if len(args) != len(EXPRESSION_OPS[name].takes):
            takes = len(EXPRESSION_OPS[name].takes)
            raise self._error(f"'{name}' with {len(args)} arguments", f"{takes} of them")
        return Ref(self.op(name, *self._steps(args)))


class Ref:
    """The number of a step, as opposed to a plain number."""

    __slots__ = ("step",)

    def __init__(self, step: int) -> None:
        self.step = step
