"""Expressions at random: of maps and of epilogues. Each step is evaluated as it is added."""

from __future__ import annotations

from typing import Any

import numpy as np
from npu_compiler.opset import EXPRESSION_OPS
from npu_compiler.reference import evaluate

from .values import FLOATS, INTEGERS, Array, Choose

# Exact where float32 has the result, which is checked.
_ARITHMETIC = (
    "add", "sub", "mul", "max", "min", "neg", "abs", "relu", "floor", "ceil", "round", "trunc", "sign", "fmod",
    "copysign", "eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "where",
)  # fmt: skip
_INTEGER = (
    "add", "sub", "mul", "max", "min", "neg", "abs", "relu", "sign", "and", "or", "xor", "inot", "idiv_floor",
    "idiv_trunc", "irem_floor", "irem_trunc", "eq", "ne", "lt", "le", "gt", "ge", "shl", "shr", "ipow", "where",
)  # fmt: skip
_BOOL = ("land", "lor", "lxor", "lnot", "where")
# Continuous and good to a few units in the last place for small arguments.
_FUNCTIONS = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "asin",
    "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "sigmoid", "silu", "softplus",
    "mish", "hardswish", "hardsigmoid", "div", "atan2", "hypot",
)  # fmt: skip
_AFTER = ("neg", "abs", "relu")  # of what is not exact


class Expression:
    """``classes`` of the operands; ``known`` holds those that are not operands of the op (the sums of a product)."""

    def __init__(self, c: Choose, operands: list[Array], exact: list[bool]) -> None:
        self.c, self.operands = c, operands
        self.steps: list[list[Any]] = []
        self.classes: list[str] = []
        self.results: list[Array] = []
        self.exact: list[bool] = []
        for k, x in enumerate(operands):
            self.add(["in", k], _class_of(x), exact[k])

    def add(self, step: list[Any], kind: str, exact: bool = True) -> bool:
        with np.errstate(all="ignore"):
            result = evaluate([*self.steps, step], self.operands)
            narrow = result.astype(np.float32).astype(np.float64)
        if kind == "f" and step[0] != "in":
            exact = exact and bool(((narrow == result) | np.isnan(result)).all())
            if not exact and (step[0] in _ARITHMETIC or not _moderate(result)):
                return False
        self.steps.append(step)
        self.classes.append(kind)
        self.results.append(result)
        self.exact.append(exact)
        return True

    def _registers(self, kind: str, exact: bool = True) -> list[int]:
        return [i for i, k in enumerate(self.classes) if k == kind and (self.exact[i] or not exact)]

    def _argument(self, kind: str) -> int | None:
        found = self._registers(kind)
        if found and not self.c.one_in(5):
            return int(found[-1 - self.c.int(0, min(len(found), 4) - 1)])
        number: Any = {"f": self.c.pick((2.0, 0.5, -1.0, 0.0)), "i": self.c.pick((2, 1, -3, 5, 0)), "b": True}[kind]
        self.add(["const", number, kind], kind)
        return len(self.steps) - 1

    def grow(self, most: int) -> None:
        for _ in range(self.c.int(0, most)):
            self._step()

    def _step(self) -> None:
        c = self.c
        last = len(self.steps) - 1
        if last >= 0 and not self.exact[last]:
            if c.one_in(2):
                self.add([c.pick(_AFTER), last], "f", False)
            return None
        kind = self.classes[-1] if self.classes and not c.one_in(4) else c.pick(("f", "i", "b"))
        if c.one_in(5):
            return self._cast(kind)
        names = {"f": _ARITHMETIC + (_FUNCTIONS if c.one_in(2) else ()), "i": _INTEGER, "b": _BOOL}[kind]
        name = c.pick(names)
        takes, gives = EXPRESSION_OPS[name].takes, EXPRESSION_OPS[name].gives
        args = [self._argument("b" if k == "b" else kind) for k in takes]
        if not self._defined(name, args):
            return None
        self.add([name, *args], kind if gives in "na" else gives, name not in _FUNCTIONS)
        return None

    def _cast(self, kind: str) -> None:
        source = self._argument(kind)
        dtype = self.c.pick((*FLOATS, *INTEGERS, "bool"))
        self.add(["cast", source, dtype], "f" if dtype in FLOATS else "b" if dtype == "bool" else "i")

    def _defined(self, name: str, args: list[int | None]) -> bool:
        b = self.results[args[-1] or 0]
        if name.startswith(("idiv", "irem")):
            return bool((b != 0).all()) and bool((b > -(2**62)).all())
        if name in ("shl", "shr"):
            return bool(((b >= 0) & (b < 64)).all())
        return bool((b >= 0).all()) if name == "ipow" else True

    def ends_as(self, kind: str) -> bool:
        """Whether the last step can be made of that class."""
        if self.classes and self.classes[-1] == kind:
            return True
        if not self.steps or not self.exact[-1]:
            return False
        dtype = {"f": "float32", "i": "int64", "b": "bool"}[kind]
        return self.add(["cast", len(self.steps) - 1, dtype], kind)


def _class_of(x: Array) -> str:
    return "b" if x.dtype == bool else "i" if x.dtype.kind in "iu" else "f"


def _moderate(x: Array) -> bool:
    """Neither close to where float32 ends, nor lost in its denormal numbers."""
    size = np.abs(x[np.isfinite(x) & (x != 0)])
    return not size.size or bool(size.max() < 1e30 and size.min() > 1e-30)
