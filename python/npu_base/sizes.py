"""Sizes that are not known yet, such as ``batch * (length // 2 + 1)``: parsed and evaluated without ``eval``.

The grammar is the part of Python's that sizes need: numbers, names, ``+ - * / // % **``, comparisons, and calls of the
functions in ``_FUNCTIONS``. Text may come from a damaged file, so its length, nesting and results are limited.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from npu_base.errors import InvalidValueError

__all__ = ["Size", "SizeError", "Tree", "as_int", "evaluate", "free_names", "is_name", "parsed"]

_LONGEST = 10_000
_DEEPEST = 100
_LARGEST = 2**63
_TOKEN = re.compile(
    r"\s*(?:(\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\d+)|([A-Za-z_]\w*)|(\*\*|//|==|!=|<=|>=|[-+*/%<>(),]))",
    re.ASCII,
)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def as_int(value: Any) -> Any:
    """An integer of any library as an ``int``; anything else as it is."""
    try:
        return value if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return value


class SizeError(InvalidValueError):
    """An expression of sizes is malformed, or has no value for these sizes."""


def _power(base: Any, exponent: Any) -> Any:
    if abs(exponent) > 64:
        raise SizeError(f"[sizes] {base} ** {exponent} is out of range; expected an exponent of at most 64")
    result = base**exponent
    if isinstance(result, complex):
        raise SizeError(f"[sizes] {base} ** {exponent} is not a real number")
    return result


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": _power, "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_MATH = (
    "sqrt", "exp", "log", "log2", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh",
)  # fmt: skip
_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "min": (-1, min), "max": (-1, max), "all": (-1, lambda *xs: all(xs)), "any": (-1, lambda *xs: any(xs)),
    "floor": (1, math.floor), "ceil": (1, math.ceil), "trunc": (1, math.trunc), "round": (1, round),
    "float": (1, float), "abs": (1, abs), "invert": (1, operator.not_), "where": (3, lambda c, a, b: a if c else b),
    **{name: (1, getattr(math, name)) for name in _MATH},
}  # fmt: skip
"""By name, the number of arguments (-1: one or more) and the function."""
_LEVELS = (("==", "!=", "<", "<=", ">", ">="), ("+", "-"), ("*", "/", "//", "%"))

Tree = Any
"""A number, a name, or a tuple of an operator or function and its operands."""


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._tokens()
        self.at = self.depth = 0

    def _tokens(self) -> list[tuple[str, str]]:
        tokens, at, text = [], 0, self.text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self.error(f"'{text[at : at + 10]}' is not part of an expression")
            kind = ("number", "name", "symbol")[(match.lastindex or 1) - 1]
            tokens.append((kind, match[match.lastindex or 1]))
            at = match.end()
        return tokens

    def error(self, why: str) -> SizeError:
        return SizeError(f"[sizes] malformed expression {self.text[:80]!r}: {why}")

    def parse(self) -> Tree:
        tree = self.level(0)
        if self.at < len(self.tokens):
            raise self.error(f"unexpected '{self.tokens[self.at][1]}'")
        return tree

    def level(self, n: int) -> Tree:
        if n == len(_LEVELS):
            return self.unary()
        left = self.level(n + 1)
        while (op := self.accept(*_LEVELS[n])) is not None:
            left = (op, left, self.level(n + 1))
            if n == 0:
                break
        return left

    def unary(self) -> Tree:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.error("it is nested too deeply")
        tree: Tree
        if self.accept("-"):
            tree = ("-", 0, self.unary())
        else:
            tree = self.atom()
            if self.accept("**"):
                tree = ("**", tree, self.unary())
        self.depth -= 1
        return tree

    def atom(self) -> Tree:
        if self.at == len(self.tokens):
            raise self.error("it ends too early")
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            return self.number(text)
        if kind == "name":
            return self.call(text) if self.accept("(") else text
        if text != "(":
            raise self.error(f"unexpected '{text}'")
        tree = self.level(0)
        self.expect(")")
        return tree

    def number(self, text: str) -> int | float:
        if text.isdigit():
            if len(text) > 19:
                raise self.error("a number is too large")
            return int(text)
        return float(text)

    def call(self, name: str) -> Tree:
        if name not in _FUNCTIONS:
            raise self.error(f"there is no function '{name}'")
        operands = [self.level(0)]
        while self.accept(","):
            operands.append(self.level(0))
        self.expect(")")
        count = _FUNCTIONS[name][0]
        if count not in (-1, len(operands)):
            raise self.error(f"{name} takes {count} arguments, got {len(operands)}")
        return (name, *operands)

    def accept(self, *symbols: str) -> str | None:
        if self.at < len(self.tokens):
            kind, text = self.tokens[self.at]
            if kind == "symbol" and text in symbols:
                self.at += 1
                return text
        return None

    def expect(self, symbol: str) -> None:
        if self.accept(symbol) is None:
            raise self.error(f"expected '{symbol}'")


@lru_cache(maxsize=4096)
def parsed(text: str) -> Tree:
    if len(text) > _LONGEST:
        raise SizeError(f"[sizes] an expression has {len(text)} characters; expected at most {_LONGEST}")
    tree = _Parser(text).parse()
    if _height(tree) > 4 * _DEEPEST:
        raise SizeError(f"[sizes] malformed expression {text[:80]!r}: it is nested too deeply")
    return tree


def _height(tree: Tree) -> int:
    """Without recursion, because a long sum is as high as it is long."""
    highest, left = 0, [(tree, 1)]
    while left:
        node, height = left.pop()
        highest = max(highest, height)
        if isinstance(node, tuple):
            left.extend((child, height + 1) for child in node[1:])
    return highest


def _value(tree: Tree, values: Mapping[str, int]) -> Any:
    if isinstance(tree, str):
        if tree not in values:
            raise SizeError(f"[sizes] the size '{tree}' has no value; got values of {', '.join(values) or 'none'}")
        return values[tree]
    if not isinstance(tree, tuple):
        return tree
    operands = [_value(child, values) for child in tree[1:]]
    function = _BINARY.get(tree[0]) or _FUNCTIONS[tree[0]][1]
    result = function(*operands)
    if isinstance(result, int) and abs(result) > _LARGEST:
        raise SizeError("[sizes] a size is out of range; expected at most 2**63")
    return result


def evaluate(text: str, values: Mapping[str, int]) -> int | float | bool:
    try:
        return _value(parsed(text), values)
    except SizeError:
        raise
    except (ArithmeticError, ValueError, TypeError) as error:
        raise SizeError(f"[sizes] {text[:80]!r} has no value for {dict(values)}: {error}") from error


def free_names(text: str) -> set[str]:
    names: set[str] = set()
    left = [parsed(text)]
    while left:
        tree = left.pop()
        if isinstance(tree, str):
            names.add(tree)
        elif isinstance(tree, tuple):
            left.extend(tree[1:])
    return names


def is_name(text: Any) -> bool:
    return isinstance(text, str) and _NAME.fullmatch(text) is not None and text not in _FUNCTIONS


class Size:
    """An expression in a shape or an attribute. Sizes with the same text are equal."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise SizeError(f"[sizes] an expression must be text; got {type(text).__name__}")
        parsed(text)
        self.text = text

    def evaluate(self, values: Mapping[str, int]) -> int | float | bool:
        return evaluate(self.text, values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return self.text
