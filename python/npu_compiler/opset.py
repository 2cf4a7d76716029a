"""The op set of compiled programs, defined once.

The C++ side (``cpp/core/program/opset.gen.h``) is generated from this table by ``tools/generate_opset.py``; the program
reader there accepts exactly what is written here. ``docs/program-format.md`` says what each op computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["DTYPES", "EXPRESSION_OPS", "OPS", "Attr", "ExprOp", "InPlace", "OpDef", "misfit"]

DTYPES: Final[dict[str, int]] = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "bool": 1,
}
"""Element types of a program's values, with their sizes in bytes."""


@dataclass(frozen=True)
class Attr:
    """One attribute. ``kind`` is int, float, bool, ints, floats, choice or expr; without a default it is required."""

    kind: str
    default: Any = None
    choices: tuple[str, ...] = ()
    required: bool = False


def _need(kind: str, *choices: str) -> Attr:
    return Attr(kind, choices=choices, required=True)


@dataclass(frozen=True)
class InPlace:
    """A result that may lie in the memory of an operand: both whole, of one shape, with elements of one size. No
    operand that is not named so may lie there.

    ``elementwise``: an element of the result is written after that element of every operand was read. ``operand`` may
    stand for several then, and all of them may lie there.
    Otherwise the result is an update of the operand, which is read only where it is written, while the other operands
    are read at any time.
    """

    result: str
    operand: str
    elementwise: bool = False


@dataclass(frozen=True)
class OpDef:
    """``inputs`` and ``outputs`` name the operands in order; ``?`` marks one that may be absent, ``*`` any number."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Attr] = field(default_factory=dict)
    in_place: tuple[InPlace, ...] = ()

    def places(self, entry: InPlace) -> tuple[int, int, int]:
        """The result, the first operand and the last one that ``entry`` allows (-1: all that follow), by number."""
        result = [name.rstrip("?") for name in self.outputs].index(entry.result)
        operand = [name.rstrip("?*") for name in self.inputs].index(entry.operand)
        return result, operand, -1 if self.inputs[operand].endswith("*") else operand


_INT64 = range(-(2**63), 2**63)
_FITS: Final[dict[str, Callable[[Any], bool]]] = {
    "int": lambda x: type(x) is int and x in _INT64,
    "float": lambda x: type(x) in (int, float),
    "bool": lambda x: type(x) is bool,
    "ints": lambda x: isinstance(x, list) and all(map(_FITS["int"], x)),
    "floats": lambda x: isinstance(x, list) and all(map(_FITS["float"], x)),
    "expr": lambda x: isinstance(x, list) and bool(x),
}


def misfit(op: OpDef, attrs: dict[str, Any]) -> str | None:
    """What is wrong with these attributes of an op."""
    for name, attr in op.attrs.items():
        if name not in attrs:
            if attr.required:
                return f"the attribute '{name}' is missing"
        elif not (attrs[name] in attr.choices if attr.kind == "choice" else _FITS[attr.kind](attrs[name])):
            return f"{name}={attrs[name]!r:.60}"
    unknown = sorted(set(attrs) - set(op.attrs))
    return f"the attribute '{unknown[0]}' is unknown" if unknown else None


def _op(name: str, signature: str, *in_place: InPlace, **attrs: Attr) -> OpDef:
    inputs, outputs = (tuple(part.split()) for part in signature.split("->"))
    return OpDef(name, inputs, outputs, attrs, in_place)


OPS: Final[dict[str, OpDef]] = {
    op.name: op
    for op in (
        _op("map", "operands* -> out", InPlace("out", "operands", elementwise=True), expr=_need("expr")),
        _op("copy", "x -> out", InPlace("out", "x", elementwise=True)),
        _op(
            "conv",
            "x weight bias? extra* -> out",
            stride=_need("ints"),
            padding_low=_need("ints"),
            padding_high=_need("ints"),
            dilation=_need("ints"),
            input_dilation=_need("ints"),
            groups=Attr("int", 1),
            epilogue=Attr("expr"),
        ),
        _op("matmul", "a b bias? extra* -> out", halves=Attr("bool", False), epilogue=Attr("expr")),
        _op(
            "attention",
            "q k v mask? -> out",
            scale=_need("float"),
            causal=Attr("bool", False),
            masked_rows=Attr("choice", "zero", ("zero", "nan")),
        ),
        _op(
            "rope",
            "x cos sin key? value? key_cache? value_cache? index? -> out key_out? value_out?",
            InPlace("key_out", "key_cache"),
            InPlace("value_out", "value_cache"),
            interleaved=Attr("bool", False),
        ),
        _op(
            "pool",
            "x -> out indices?",
            kind=_need("choice", "max", "avg"),
            kernel=_need("ints"),
            stride=_need("ints"),
            padding=_need("ints"),
            dilation=_need("ints"),
            count_padding=Attr("bool", True),
            divisor=Attr("int", 0),
        ),
        _op("adaptive_pool", "x -> out indices?", kind=_need("choice", "max", "avg")),
        _op(
            "norm",
            "x weight? bias? -> out",
            kind=_need("choice", "layer", "rms", "group"),
            axes=Attr("int", 1),
            groups=Attr("int", 1),
            eps=_need("float"),
        ),
        _op("softmax", "x -> out", axis=_need("int"), log=Attr("bool", False)),
        _op(
            "reduce",
            "x -> out",
            kind=_need("choice", "sum", "mean", "prod", "max", "min", "any", "all", "argmax", "argmin", "var", "std"),
            axes=_need("ints"),
            correction=Attr("float", 0.0),
        ),
        _op("scan", "x -> out", kind=_need("choice", "sum", "prod"), axis=_need("int")),
        _op("sort", "x -> values? indices?", axis=_need("int"), descending=Attr("bool", False)),
        _op("topk", "x -> values? indices?", axis=_need("int"), largest=Attr("bool", True)),
        _op("gather", "x indices* -> out", axes=_need("ints"), dims=_need("ints"), wrap=Attr("bool", False)),
        _op(
            "scatter",
            "x updates indices* -> out",
            InPlace("out", "x"),
            kind=_need("choice", "set", "add", "mul", "max", "min"),
            axes=_need("ints"),
            dims=_need("ints"),
            wrap=Attr("bool", False),
        ),
        _op("iota", "-> out", start=_need("float"), step=_need("float")),
        _op(
            "resize",
            "x -> out",
            kind=_need("choice", "nearest", "nearest_exact", "linear", "cubic"),
            align_corners=Attr("bool", False),
            scales=_need("floats"),
        ),
        _op(
            "pad",
            "x -> out",
            low=_need("ints"),
            high=_need("ints"),
            kind=Attr("choice", "constant", ("constant", "reflect", "replicate", "circular")),
            value=Attr("float", 0.0),
        ),
    )
}


@dataclass(frozen=True)
class ExprOp:
    """One step of a fused elementwise expression. ``takes`` and ``gives`` are register classes: f(loat), i(nteger),
    b(ool); ``n`` is a number (f or i), ``a`` anything; letters that repeat must agree."""

    takes: str
    gives: str


EXPRESSION_OPS: Final[dict[str, ExprOp]] = {
    **{name: ExprOp("nn", "n") for name in ("add", "sub", "mul", "max", "min")},
    **{name: ExprOp("ff", "f") for name in ("div", "pow", "fmod", "atan2", "copysign", "hypot")},
    "idiv_floor": ExprOp("ii", "i"),
    "idiv_trunc": ExprOp("ii", "i"),
    "irem_floor": ExprOp("ii", "i"),
    "irem_trunc": ExprOp("ii", "i"),
    "ipow": ExprOp("ii", "i"),
    **{name: ExprOp("ii", "i") for name in ("and", "or", "xor", "shl", "shr")},
    **{name: ExprOp("bb", "b") for name in ("land", "lor", "lxor")},
    "inot": ExprOp("i", "i"),
    "lnot": ExprOp("b", "b"),
    **{name: ExprOp("nn", "b") for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "where": ExprOp("baa", "a"),
    **{name: ExprOp("n", "n") for name in ("neg", "abs", "sign", "relu")},
    **{
        name: ExprOp("f", "f")
        for name in (
            "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal",
            "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
            "erf", "erfc", "sigmoid", "silu", "gelu", "gelu_tanh", "softplus", "mish", "hardswish", "hardsigmoid",
            "floor", "ceil", "round", "trunc",
        )
    },
    "isnan": ExprOp("f", "b"),
    "isinf": ExprOp("f", "b"),
}  # fmt: skip
"""Beside these, an expression has ["in", k], ["const", number, class] and ["cast", step, dtype]."""
