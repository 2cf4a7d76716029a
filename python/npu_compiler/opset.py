"""The op set of compiled programs, the only definition of each op.

``tools/generate_opset.py`` generates from it what C++ needs (``cpp/core/program/opset.gen.h``, ``op_rules.gen.h``) and
the tables of ``docs/program-format.md``. The compiler's passes read it directly. It says nothing about kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
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
    """A result that may reuse the memory of an operand, if both are whole values of the same shape and element size. No
    other operand may share its memory.

    If ``elementwise``, each element of the result is written after that element of every operand was read. ``operand``
    may then stand for several operands, any of which may share the memory.
    Otherwise the result is an update of the operand, which is read only where it is written. Other operands may be read
    at any time.
    """

    result: str
    operand: str
    elementwise: bool = False


Attrs = Mapping[str, Any]
Rows = Callable[[Attrs, int, int], "list[set[int]] | None"]
"""From the attributes, the rank of the result and the number of operands: for each operand, the dimensions along which
a row of the result needs only that row, or None if these attributes mix all rows."""


@dataclass(frozen=True)
class OpDef:
    """``signature`` names operands and results in order, as in "x weight? extra* -> out": ``?`` marks one that may be
    absent, ``*`` any number."""

    name: str
    signature: str
    doc: str
    """What it computes, for the table of docs/program-format.md."""
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    rules: tuple[str, ...] | None = None
    """What operands and attributes must satisfy, if these words can express it (X and Y are operands or results):
    "float X", "integer X" (and no bool), "same X Y" (shape and dtype), "shape X = Y", "dtype X = Y", "dtype X = int64",
    "dtype X = sum(Y)" (int64 for integers), "axis A of X" (A is an attribute). If None, functions in op_check.cpp and
    op_check.py check the op."""
    in_place: tuple[InPlace, ...] = ()
    layout: str = "row_major"
    """The layout of results: "row_major", "follows" (that of the operands) or "channels_last" (preferred, also for
    operand 0)."""
    negative_strides: bool = False
    """Whether GPU kernels support operands with negative strides. Otherwise they get copies."""
    indexed: str = ""
    """The operand whose rows the index operands (``index``, ``indices``) select."""
    moves: int = 0
    """How many of the first operands have their elements moved, not computed with."""
    rows: Rows | None = None
    """How rows of the result depend on rows of the operands. If None, the op needs all rows."""

    def _names(self, side: int) -> tuple[str, ...]:
        return tuple(self.signature.split("->")[side].split())

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        return self._names(0)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        return self._names(1)

    @cached_property
    def fixed_inputs(self) -> tuple[str, ...]:
        """The names of operands, without one that stands for any number of them."""
        return tuple(name for name in self.inputs if not name.endswith("*"))

    @cached_property
    def least_inputs(self) -> int:
        return len([name for name in self.fixed_inputs if not name.endswith("?")])

    @cached_property
    def operand_names(self) -> tuple[str, ...]:
        """Of operands and results, each as its own name."""
        return tuple(name.rstrip("?") for name in (*self.fixed_inputs, *self.outputs))

    @property
    def elementwise(self) -> bool:
        return any(entry.elementwise for entry in self.in_place)

    def input(self, name: str) -> int:
        """The number of an operand."""
        return [n.rstrip("?*") for n in self.inputs].index(name)

    @cached_property
    def expr_operand(self) -> int:
        """The first operand that only an expression loads, or -1 if the op has no expression."""
        if not any(attr.kind == "expr" for attr in self.attrs.values()):
            return -1
        return next(i for i, name in enumerate(self.inputs) if name.endswith("*"))

    def in_place_operands(self, entry: InPlace) -> tuple[int, int, int]:
        """The numbers of the result, and of the first and last operand that ``entry`` allows (-1: all that follow)."""
        result = [name.rstrip("?") for name in self.outputs].index(entry.result)
        operand = self.input(entry.operand)
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


def misfit(op: OpDef, attrs: Mapping[str, Any]) -> str | None:
    """What is wrong with these attributes of an op."""
    for name, attr in op.attrs.items():
        if name not in attrs:
            if attr.required:
                return f"the attribute '{name}' is missing"
        elif not (attrs[name] in attr.choices if attr.kind == "choice" else _FITS[attr.kind](attrs[name])):
            return f"{name}={attrs[name]!r:.60}"
    if attrs.keys() <= op.attrs.keys():
        return None
    return f"the attribute '{min(attrs.keys() - op.attrs.keys())}' is unknown"


def _all(attrs: Attrs, rank: int, operands: int) -> list[set[int]]:
    return [set(range(rank))] * operands


def _except(attribute: str) -> Rows:
    """All dimensions except those that an attribute names."""

    def rows(attrs: Attrs, rank: int, operands: int) -> list[set[int]]:
        named = attrs[attribute]
        axes = {axis % rank for axis in (named if isinstance(named, list) else [named])} if rank else set()
        return [set(range(rank)) - axes] * operands

    return rows


def _product_rows(attrs: Attrs, rank: int, operands: int) -> list[set[int]]:
    rows, none = set(range(rank - 1)), set[int]()
    right = none if attrs.get("bits") else rows - {rank - 2}
    return [rows, right, rows, none, none, *[rows] * (operands - 5)][:operands]


def _norm_rows(attrs: Attrs, rank: int, operands: int) -> list[set[int]] | None:
    if attrs["kind"] == "group":
        return None
    return [set(range(rank - attrs.get("axes", 1))), *[set[int]()] * (operands - 1)]


def _last(attrs: Attrs, rank: int, operands: int) -> list[set[int]]:
    return [set(range(rank - 1))] * operands


def _attention_rows(attrs: Attrs, rank: int, operands: int) -> list[set[int]]:
    rows = {0} if attrs.get("causal") else {0, 2}  # with causal, the columns that a row sees depend on its index
    return [rows, {0}, {0}, rows, {0}, {0}][:operands]


def _quantized(bits: Attr) -> dict[str, Attr]:
    """How the integers of a quantised weight are stored, as ``npu_base.quantization.Scheme`` defines it. The dtypes of
    scales, offsets and units are those of their operands."""
    return {
        "bits": bits,
        "group": Attr("int", 0),
        "offset": Attr("choice", "none", ("none", "point", "bias")),
        "signed_integers": Attr("bool", False),
        "unit": Attr("int", 0),
    }


OPS: Final[dict[str, OpDef]] = {
    op.name: op
    for op in (
        OpDef(
            "map",
            "operands* -> out",
            "`out[i] = expr(operands[i]...)`; all operands have the shape of `out` (broadcast is stride 0)",
            attrs={"expr": _need("expr")},
            in_place=(InPlace("out", "operands", elementwise=True),),
            layout="follows",
            negative_strides=True,
            rows=_all,
        ),
        OpDef(
            "copy",
            "x -> out",
            "`out[i] = x[i]`, bitwise",
            rules=("same x out",),
            in_place=(InPlace("out", "x", elementwise=True),),
            layout="follows",
            negative_strides=True,
            moves=1,
            rows=_all,
        ),
        OpDef(
            "conv",
            "x weight bias? extra* -> out",
            "cross-correlation; `weight` is `[O, C / groups, kernel...]`, `bias` is `[O]`. `input_dilation` d "
            "first inserts d-1 zeros between the elements of `x` (transposed convolution). The shape of `out` "
            "determines how many windows there are; padding may be negative",
            attrs={
                "stride": _need("ints"),
                "padding_low": _need("ints"),
                "padding_high": _need("ints"),
                "dilation": _need("ints"),
                "input_dilation": _need("ints"),
                "groups": Attr("int", 1),
                "epilogue": Attr("expr"),
            },
            layout="channels_last",
            negative_strides=True,
        ),
        OpDef(
            "matmul",
            "a b bias? scales? offsets? units? extra* -> out",
            "`out[..., m, n] = sum_k a[..., m, k] * b[..., k, n] + bias[..., m, n]`. Batch dimensions are "
            "broadcast by strides, and so is the bias over rows; all have the rank of `out`, which is at least "
            "2. Sums of integers wrap, and have neither bias nor epilogue. With `halves`, `b` and `bias` have twice "
            'the columns of `out`. In the epilogue, `["in", 0]` is then the sum of column n and `["in", 1]` that of '
            "column n + N, and extras start at 2. If `bits` is not 0, the right side is [quantised](quantization.md): "
            "`b`, `scales`, `offsets` and `units` are the operands of a `dequantize` with these attributes, whose "
            "result `[N, K]` is transposed and shared by all batches. A kernel may round that result to the dtype of "
            "`a`",
            attrs={"halves": Attr("bool", False), "epilogue": Attr("expr"), **_quantized(Attr("int", 0))},
            negative_strides=True,
            rows=_product_rows,
        ),
        OpDef(
            "dequantize",
            "q scales offsets? units? -> out",
            "the numbers of a [quantised weight](quantization.md). `q` is `[..., bytes]`, uint8: a row of `bits` bits "
            "each, from the lowest of the first byte on. `scales` and `offsets` are `[..., groups]`, floating-point: "
            "one for each `group` elements along the last dimension of `out`, or one for all of them if `group` is 0. "
            "With q an integer of the row, unsigned or else in two's complement (`signed_integers`), `out` is `scale * "
            "q` if `offset` is none, `scale * (q - offset)` if it is point, and `scale * q + offset` if it is bias. "
            "`bits` is 2, 3, 4, 6 or 8. If `unit` is not 0, it is a multiple of `group`, which is then not 0. Scales "
            "and offsets are int8 and are multiplied by `units` `[..., units]`, floating-point: one for each `unit` "
            "elements along the last dimension of `out`; with offsets two, that of the scales and that of the offsets",
            attrs=_quantized(_need("int")),
            rows=_last,
        ),
        OpDef(
            "attention",
            "q k v mask? key_scales? value_scales? -> out",
            "`softmax(q k^T * scale + mask) v` per head. `q` is `[N, H, S, D]`, `k` `[N, G, T, D]`, `v` `[N, G, T, "
            "E]`, where G divides H and head h reads group h / (H / G). `mask` is `[N, H, S, T]` (broadcast by "
            "strides): bool, where false hides a column, or a term that is added, in float32 or `q`'s dtype. With "
            "`causal`, row i sees columns up to i. A row that sees no column (all scores are -inf) gives zeros, or "
            "NaN with `masked_rows=nan`. With float32 scales `[N, G, T]`, `k` and `v` are int8",
            attrs={
                "scale": _need("float"),
                "causal": Attr("bool", False),
                "masked_rows": Attr("choice", "zero", ("zero", "nan")),
            },
            rows=_attention_rows,
        ),
        OpDef(
            "rope",
            "x cos sin key? value? key_cache? value_cache? index? -> out key_out? value_out?",
            "rotates the first R elements of each row of `x` `[N, H, S, D]`, where `cos` and `sin` are `[N, 1, "
            "S, R]`. Element i is paired with i + R/2 (with `interleaved`, 2i with 2i + 1); the first of a pair "
            "becomes `a cos - b sin` and the second `b cos + a sin`, each with its own cos and sin. `key` `[N, "
            "G, S, D]` is rotated in the same way, to `key_out`. With caches `[N, G, C, ..]`, `key_out` is "
            "`key_cache` with the rotated keys written to the rows given by `index` `[S]`, and `value_out` is "
            "`value_cache` with `value` written there. An index out of range is an error at run time",
            attrs={"interleaved": Attr("bool", False)},
            in_place=(InPlace("key_out", "key_cache"), InPlace("value_out", "value_cache")),
            indexed="key_cache",
        ),
        OpDef(
            "pool",
            "x -> out indices?",
            "`max` (any NaN gives NaN; padding is ignored) or `avg`. With `count_padding`, an average counts "
            "padded elements, but never elements beyond the padding; `divisor` replaces the count. `indices` are "
            "flat indices into the spatial dimensions, int64. The shape of `out` determines how many windows "
            "there are",
            attrs={
                "kind": _need("choice", "max", "avg"),
                "kernel": _need("ints"),
                "stride": _need("ints"),
                "padding": _need("ints"),
                "dilation": _need("ints"),
                "count_padding": Attr("bool", True),
                "divisor": Attr("int", 0),
            },
            layout="follows",
            moves=1,
        ),
        OpDef(
            "adaptive_pool",
            "x -> out indices?",
            "as `pool`, where window i ranges from floor(i*in/out) to ceil((i+1)*in/out)",
            attrs={"kind": _need("choice", "max", "avg")},
            layout="follows",
            moves=1,
        ),
        OpDef(
            "norm",
            "x weight? bias? -> out",
            "`layer` and `rms` normalise over the last `axes` dimensions, `group` over each of `groups` groups "
            "of channels and all dimensions after them. Weight and bias have the normalised shape (for `group`, "
            "`[C]`). `eps` may be any number. A sum of squares that overflows float32 gives NaN, and 0 for `rms`",
            attrs={
                "kind": _need("choice", "layer", "rms", "group"),
                "axes": Attr("int", 1),
                "groups": Attr("int", 1),
                "eps": _need("float"),
            },
            layout="follows",
            rows=_norm_rows,
        ),
        OpDef(
            "softmax",
            "x -> out",
            "along `axis`; with `log`, its logarithm. A row in which every element is -inf gives NaN, as in PyTorch",
            attrs={"axis": _need("int"), "log": Attr("bool", False)},
            rules=("float x", "same x out", "axis axis of x"),
            layout="follows",
            rows=_except("axis"),
        ),
        OpDef(
            "reduce",
            "x -> out",
            "over `axes`, which stay as dimensions of size 1. `argmax` and `argmin` (one axis) give int64: the "
            "first of equal elements, or the first NaN. `any` and `all` give bool; `sum` and `prod` of integers "
            "and bools give int64; `var` subtracts `correction` from the count; `std` is its root, and may be "
            "finite where the variance overflows",
            attrs={
                "kind": _need(
                    "choice", "sum", "mean", "prod", "max", "min", "any", "all", "argmax", "argmin", "var", "std"
                ),
                "axes": _need("ints"),
                "correction": Attr("float", 0.0),
            },
            rows=_except("axes"),
        ),
        OpDef(
            "scan",
            "x -> out",
            "cumulative sum or product along `axis`; integers give int64",
            attrs={"kind": _need("choice", "sum", "prod"), "axis": _need("int")},
            rules=("shape out = x", "dtype out = sum(x)", "axis axis of x"),
            layout="follows",
            rows=_except("axis"),
        ),
        OpDef(
            "scan_extreme",
            "x -> values? indices?",
            "cumulative maximum or minimum along `axis`; `indices` (int64) name the last of equal elements, or of NaNs",
            attrs={"kind": _need("choice", "max", "min"), "axis": _need("int")},
            rules=("same x values", "shape indices = x", "dtype indices = int64", "axis axis of x"),
            layout="follows",
            moves=1,
            rows=_except("axis"),
        ),
        OpDef(
            "sort",
            "x -> values? indices?",
            "stable; NaN sorts as the largest; `indices` are int64",
            attrs={"axis": _need("int"), "descending": Attr("bool", False)},
            rules=("same x values", "shape indices = x", "dtype indices = int64", "axis axis of x"),
            moves=1,
        ),
        OpDef(
            "topk",
            "x -> values? indices?",
            "the largest or smallest elements, sorted; the size of the outputs along `axis` is the number of elements",
            attrs={"axis": _need("int"), "largest": Attr("bool", True)},
            moves=1,
        ),
        OpDef(
            "gather",
            "x indices* -> out",
            "`out[o] = x[c]`, where `c[d] = indices_k[o]` for `d = axes[k]`, and `c[d] = o[dims[d]]` otherwise; "
            "`dims` has one entry per dimension of `x` (-1 for those in `axes`). Index operands have the shape "
            "of `out`; `wrap` allows negative indices. An index out of range is an error at run time",
            attrs={"axes": _need("ints"), "dims": _need("ints"), "wrap": Attr("bool", False)},
            indexed="x",
            moves=1,
        ),
        OpDef(
            "scatter",
            "x updates indices* -> out",
            "`out = x`; then, for each position `u` of `updates` in order, `out[c] = updates[u]` (or `+=`, ...), "
            "with `c` as in `gather`",
            attrs={
                "kind": _need("choice", "set", "add", "mul", "max", "min"),
                "axes": _need("ints"),
                "dims": _need("ints"),
                "wrap": Attr("bool", False),
            },
            in_place=(InPlace("out", "x"),),
            indexed="x",
            moves=2,
        ),
        OpDef("iota", "-> out", "rank 1: `start + i * step`", attrs={"start": _need("float"), "step": _need("float")}),
        OpDef(
            "resize",
            "x -> out",
            "resizes the spatial dimensions of a floating-point `x` to those of `out`, as "
            "`torch.nn.functional.interpolate` does. A scale of 0 means the ratio of the sizes; any other is "
            "used as the scale factor. Cubic uses a = -0.75",
            attrs={
                "kind": _need("choice", "nearest", "nearest_exact", "linear", "cubic"),
                "align_corners": Attr("bool", False),
                "scales": _need("floats"),
            },
            layout="follows",
            moves=1,
        ),
        OpDef(
            "grid_sample",
            "x grid -> out",
            "the elements of a floating-point `x` at the positions in `grid`, as `torch.nn.functional.grid_sample` "
            "picks them; `grid` is [batch, spatial extents of `out`, spatial dimensions of `x`], the last one first, "
            "in float32 or as `x`. Positions are computed in float32. Cubic uses a = -0.75",
            attrs={
                "kind": _need("choice", "nearest", "linear", "cubic"),
                "padding": _need("choice", "zeros", "border", "reflection"),
                "align_corners": Attr("bool", False),
            },
            layout="follows",
        ),
        OpDef(
            "pad",
            "x -> out",
            "pads each dimension; `value` is the padding for `constant`",
            attrs={
                "low": _need("ints"),
                "high": _need("ints"),
                "kind": Attr("choice", "constant", ("constant", "reflect", "replicate", "circular")),
                "value": Attr("float", 0.0),
            },
            layout="follows",
            moves=1,
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
"""Expressions also have ["in", k], ["const", number, class] and ["cast", step, dtype]."""
