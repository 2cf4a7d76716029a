"""Elementwise operators: a table from ATen names to expressions.

A line is ``names (arguments) kind: expression``; a name may list overloads. Arguments without a default are tensors,
or numbers where the node
says so; those with a default are numbers. The kinds tell the dtype to compute in and the result's:
``same`` promotes and keeps it, ``float`` makes integers float32 first, ``compare`` promotes and gives bool, ``floats``
and ``special`` say in bool what is true of floats (``special``: what of no integer), ``logic`` takes bools and gives
bool, ``int`` refuses floats.

Numbers that take part in the promotion are converted to the dtype, as PyTorch converts them; those with a default
are not, but where the expression says ``rounded(...)``. See docs/exactness.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from typing import Any

from ..errors import Refused, Unsupported
from ..exprs import as_stored, class_of
from ..graph import View
from ..lowering import Builder, Scalar, Tensor, broadcast, lowering, promote
from ..registry import Parameter, add

TABLE = """
abs neg sign relu (self) same: {name}(self)
sgn (self) same: sign(self)
exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tan asin acos atan (self) float: {name}(self)
sinh cosh tanh asinh acosh atanh erf erfc sigmoid (self) float: {name}(self)
special_expit (self) float: sigmoid(self)
special_entr (self) float: self if isnan(self) else -self * log(self) if self > 0 else 0.0 if self == 0 else -inf
silu mish hardswish hardsigmoid (self) float: {name}(self)
floor ceil round trunc (self) rounding: {name}(self)
fix (self) rounding: trunc(self)
frac (self) float: self - trunc(self)
positive (self) same: self
relu6 (self) same: min(6, max(0, self))
hardtanh (self, min_val=-1, max_val=1) same: min(max_val, max(min_val, self))
leaky_relu (self, negative_slope=0.01) float: self if self > 0 else self * negative_slope
elu (self, alpha=1, scale=1, input_scale=1) float: \
self * scale if self > 0 else expm1(self * input_scale) * alpha * scale
celu (self, alpha=1.0) float: self if self > 0 else expm1(self / alpha) * alpha
selu (self) float: (self if self > 0 else expm1(self) * 1.6732632423543772) * 1.0507009873554805
log_sigmoid (self) float: min(self, 0) - log1p(exp(-abs(self)))
softplus (self, beta=1, threshold=20) float: self if self * beta > threshold else softplus(self * beta) / beta
hardshrink (self, lambd=0.5) float: 0.0 if abs(self) <= rounded(lambd) else self
threshold (self, threshold, value) same: value if self <= threshold else self
rad2deg (self) float: self * 57.29577951308232
deg2rad (self) float: self * 0.017453292519943295
sinc (self) float: 1.0 if self == 0 else sin(self * 3.141592653589793) / (self * 3.141592653589793)
atan2 hypot copysign.Tensor copysign.Scalar (self, other) float: {name}(self, other)
maximum minimum max.other min.other (self, other) same: {short}(self, other)
fmax (self, other) same: other if self != self else self if other != other else max(other, self)
fmin (self, other) same: other if self != self else self if other != other else min(other, self)
logaddexp (self, other) float: \
self if self == other and isinf(self) else max(self, other) + log1p(exp(-abs(self - other)))
logaddexp2 (self, other) float: \
self if self == other and isinf(self) else max(self, other) + log1p(exp2(-abs(self - other))) * 1.4426950408889634
special_xlog1py (self, other) float: other if other != other else 0.0 if self == 0 else self * log1p(other)
heaviside (self, values) same: values if self == 0 else 1 if self > 0 else 0
xlogy.Tensor|Scalar_Other|Scalar_Self (self, other) float: \
other if other != other else 0.0 if self == 0 else self * log(other)
bitwise_and.Tensor|Scalar|Scalar_Tensor __and__.Tensor|Scalar (self, other) int: self & other
bitwise_or.Tensor|Scalar|Scalar_Tensor __or__.Tensor|Scalar (self, other) int: self | other
bitwise_xor.Tensor|Scalar|Scalar_Tensor __xor__.Tensor|Scalar (self, other) int: self ^ other
bitwise_left_shift.Tensor|Tensor_Scalar __lshift__.Tensor|Scalar (self, other) int: self << other
bitwise_right_shift.Tensor|Tensor_Scalar __rshift__.Tensor|Scalar (self, other) int: self >> other
bitwise_not (self) int: inot(self)
logical_and (self, other) logic: self and other
logical_or (self, other) logic: self or other
logical_xor (self, other) logic: lxor(self, other)
logical_not (self) logic: not self
eq.Tensor eq.Scalar (self, other) compare: self == other
ne.Tensor ne.Scalar (self, other) compare: self != other
lt.Tensor lt.Scalar (self, other) compare: self < other
le.Tensor le.Scalar (self, other) compare: self <= other
gt.Tensor gt.Scalar (self, other) compare: self > other
ge.Tensor ge.Scalar (self, other) compare: self >= other
isnan (self) special: isnan(self)
isinf (self) special: isinf(self)
isfinite (self) special: not isnan(self - self)
isposinf (self) special: self == inf
isneginf (self) special: self == -inf
signbit (self) floats: copysign(1.0, self) < 0
addcmul (self, tensor1, tensor2, value=1) same: self + tensor1 * tensor2 * value
addcdiv (self, tensor1, tensor2, value=1) float: self + tensor1 / tensor2 * value
lerp.Tensor|Scalar (self, end, weight) float: \
self + weight * (end - self) if abs(weight) < 0.5 else end - (end - self) * (1 - weight)
"""


def _compute(kind: str, participants: list[View | Scalar]) -> tuple[str, str]:
    """The dtypes to compute in and to give."""
    dtype = promote(participants)
    if kind == "logic":
        return "bool", "bool"
    if kind == "floats":
        return dtype if class_of(dtype) == "f" else "float32", "bool"
    if kind in ("compare", "compare_b"):
        return ("int64" if dtype == "bool" else dtype), "bool"
    if kind == "float" and class_of(dtype) != "f":
        return "float32", "float32"
    if kind == "int" and class_of(dtype) == "f":
        raise Unsupported("bitwise arithmetic of floats")
    if kind == "same" and dtype == "bool":
        return "int64", "bool"  # min, max, products of truth values
    return dtype, dtype


_BITS = {"self & other": "self and other", "self | other": "self or other", "self ^ other": "lxor(self, other)",
         "inot(self)": "not self"}  # fmt: skip


def elementwise(
    b: Builder, kind: str, text: str, promoting: list[str], args: dict[str, Any], unrounded: Collection[str] = ()
) -> View:
    """Numbers and single elements among the ``unrounded`` meet a half tensor as float32."""
    participants = [args[name] for name in promoting]
    if kind == "rounding":
        if class_of(promote(participants)) != "f":
            return participants[0]
        kind = "same"
    if kind == "special":  # integers are all finite
        if class_of(promote(participants)) != "f":
            return b.full(args["self"].shape, text.startswith("not"), "bool")
        kind = "floats"
    compute, result = _compute(kind, participants)
    if kind == "int" and compute == "bool":
        text = _BITS.get(text, text)
        args = {k: v if isinstance(v, View) else bool(v) for k, v in args.items()}
    rounded = set(promoting) - set(unrounded)
    args = {k: v if isinstance(v, View) else _number(b, v, compute, k in rounded) for k, v in args.items()}
    infinity: dict[str, Any] = {"inf": float("inf")} if "inf" in text else {}
    return b.map(text, result, compute=compute, unrounded=unrounded, **args, **infinity)


def _number(b: Builder, value: Scalar, dtype: str, converted: bool) -> Any:
    """A number for an expression that is computed in ``dtype``."""
    cls = class_of(dtype)
    if cls == "b":
        return b.full((), value, dtype)
    if cls == "f":
        return as_stored(float(value), dtype) if converted and dtype != "float32" else float(value)
    if isinstance(value, float) and value != int(value):
        raise Unsupported("a fraction among integers")
    return as_stored(int(value), dtype) if converted else int(value)


def _table_function(kind: str, text: str, promoting: list[str]) -> Callable[..., View]:
    return lambda b, **args: elementwise(b, kind, text, promoting, args)


def _register() -> None:
    for line in TABLE.strip().splitlines():
        match = re.fullmatch(r"(.+?) \((.+?)\) (\w+): (.+)", line)
        assert match, line
        names, arguments, kind, text = match.groups()
        parameters = []
        for argument in arguments.split(", "):
            name, _, default = argument.partition("=")
            parameters.append(
                Parameter(name, "attr", False, default=float(default) if "." in default else int(default), hint=Scalar)
                if default
                else Parameter(name, "either", True, hint=Scalar)
            )
        promoting = [p.name for p in parameters if p.required and not (p.name == "weight" or "threshold" in names)]
        for entry in names.split():
            name, _, overloads = entry.partition(".")
            expression = text.replace("{name}", name).replace("{short}", name[:3])
            full = [f"aten.{name}.{overload}" for overload in (overloads or "default").split("|")]
            add(full, _table_function(kind, expression, promoting or ["self"]), parameters)


_register()
_FLIPPED = {"rsub.Tensor": "other - self * alpha", "rsub.Scalar": "other - self * alpha"}


@lowering("aten.add.Tensor", "aten.add.Scalar")
def add_(b: Builder, self: Tensor | Scalar, other: Tensor | Scalar, alpha: Scalar = 1) -> Tensor:
    if promote([self, other]) == "bool":
        return elementwise(b, "logic", "self or other" if alpha else "self", ["self"], {"self": self, "other": other})
    return _sum(b, "+", self, other, alpha)


def _sum(b: Builder, sign: str, self: Tensor | Scalar, other: Tensor | Scalar, alpha: Scalar) -> Tensor:
    text = f"self {sign} other" if alpha == 1 else f"self {sign} other * rounded(alpha)"
    numbers = {} if alpha == 1 else {"alpha": alpha}
    return elementwise(b, "same", text, ["self", "other"], {"self": self, "other": other, **numbers})


@lowering("aten.sub.Tensor", "aten.sub.Scalar", "aten.subtract.Tensor", "aten.subtract.Scalar")
def sub(b: Builder, self: Tensor | Scalar, other: Tensor | Scalar, alpha: Scalar = 1) -> Tensor:
    return _sum(b, "-", self, other, alpha)


@lowering("aten.rsub.Tensor", "aten.rsub.Scalar")
def rsub(b: Builder, self: Tensor | Scalar, other: Tensor | Scalar, alpha: Scalar = 1) -> Tensor:
    return sub(b, other, self, alpha)


@lowering("aten.mul.Tensor", "aten.mul.Scalar", "aten.multiply.Tensor", "aten.multiply.Scalar")
def mul(b: Builder, self: Tensor | Scalar, other: Tensor | Scalar) -> Tensor:
    kind, text = ("logic", "self and other") if promote([self, other]) == "bool" else ("same", "self * other")
    return elementwise(b, kind, text, ["self", "other"], {"self": self, "other": other}, unrounded=["other"])


_REST = "fmod(self, other)"
_TURNED = f"({_REST} != 0 and lxor({_REST} < 0, other < 0))"
_MOD = f"({_REST} + other if {_TURNED} else {_REST})"
# As PyTorch: from the remainder, whose quotient is whole but for rounding.
_WHOLE = f"((self - {_REST}) / other - 1 if {_TURNED} else (self - {_REST}) / other)"
_DOWN = f"(floor({_WHOLE}) + 1 if {_WHOLE} - floor({_WHOLE}) > 0.5 else floor({_WHOLE}))"
_DIV = {
    "floor": f"self / other if other == 0 else copysign(0.0, self / other) if {_WHOLE} == 0 else {_DOWN}",
    "trunc": "trunc(self / other)",
}


@lowering("aten.div.Tensor", "aten.div.Scalar", "aten.div.Tensor_mode", "aten.div.Scalar_mode",
          "aten.true_divide.Tensor", "aten.divide.Tensor", "aten.divide.Scalar")  # fmt: skip
def div(b: Builder, self: Tensor | Scalar, other: Tensor | Scalar, rounding_mode: str | None = None) -> Tensor:
    args, both = {"self": self, "other": other}, ["self", "other"]
    if rounding_mode is None:
        return elementwise(b, "float", "self / other", both, args, unrounded=["other"])
    if rounding_mode not in _DIV:
        raise Refused(f"rounding_mode {rounding_mode!r}")
    if class_of(promote([self, other])) == "f":
        return elementwise(b, "same", _DIV[rounding_mode], both, args, unrounded=["other"])
    return elementwise(b, "same", f"idiv_{rounding_mode}(self, other)", both, args)


@lowering("aten.floor_divide.default", "aten.floor_divide.Scalar")
def floor_divide(b: Builder, self: Tensor | Scalar, other: Tensor | Scalar) -> Tensor:
    return div(b, self, other, "floor")


@lowering("aten.remainder.Tensor", "aten.remainder.Scalar", "aten.remainder.Scalar_Tensor")
def remainder(b: Builder, self: Tensor | Scalar, other: Tensor | Scalar) -> Tensor:
    is_float = class_of(promote([self, other])) == "f"
    return elementwise(
        b, "same", _MOD if is_float else "irem_floor(self, other)", ["self", "other"], {"self": self, "other": other}
    )


@lowering("aten.fmod.Tensor", "aten.fmod.Scalar")
def fmod(b: Builder, self: Tensor | Scalar, other: Tensor | Scalar) -> Tensor:
    is_float = class_of(promote([self, other])) == "f"
    text = "fmod(self, other)" if is_float else "irem_trunc(self, other)"
    return elementwise(b, "same", text, ["self", "other"], {"self": self, "other": other})


_POWERS = {
    1: "self",
    2: "self * self",
    3: "self * self * self",
    0.5: "sqrt(self)",
    -0.5: "rsqrt(self)",
    -1: "reciprocal(self)",
    -2: "reciprocal(self * self)",
}
_HALF_POWERS = {
    "float16": {k: v for k, v in _POWERS.items() if k in (1, 2, 3)},
    "bfloat16": _POWERS | {3: "rounded(self * self) * self", -2: "reciprocal(rounded(self * self))"},
}
"""What PyTorch computes without ``pow``, which differs for -inf and -0; each dtype has kernels of its own."""


@lowering("aten.pow.Tensor_Scalar", "aten.pow.Tensor_Tensor", "aten.pow.Scalar", "aten.float_power.Tensor_Scalar")
def pow_(b: Builder, self: Tensor | Scalar, exponent: Tensor | Scalar) -> Tensor:
    args, both = {"self": self, "exponent": exponent}, ["self", "exponent"]
    if promote([self, exponent]) == "bool":
        # Traced, it is int64; run, it is bool where the exponent is a number, and not implemented where it is a tensor.
        raise Unsupported(
            "a power of bools, of which PyTorch's trace and its result differ in dtype; use x.long() ** y"
        )
    if class_of(promote([self, exponent])) != "f":
        if not isinstance(exponent, View) and exponent < 0:
            raise Unsupported("an integer to a negative power")
        if isinstance(self, View) and not isinstance(exponent, View) and exponent in (1, 2, 3):
            base = b.cast(self, promote([self, exponent]))
            return elementwise(b, "same", " * ".join(["self"] * int(exponent)), ["self"], {"self": base})
        return elementwise(b, "same", "ipow(self, exponent)", both, args)
    powers = _HALF_POWERS.get(promote([self, exponent]), _POWERS)
    if isinstance(self, View) and not isinstance(exponent, View) and exponent in powers:
        base = self if class_of(self.dtype) == "f" else b.cast(self, "float32")
        return elementwise(b, "same", powers[exponent], ["self"], {"self": base})
    return elementwise(b, "same", "pow(self, exponent)", both, args)


@lowering("aten.square.default")
def square(b: Builder, self: Tensor) -> Tensor:
    return pow_(b, self, 2)


@lowering("aten.ldexp.Tensor")
def ldexp(b: Builder, self: Tensor, other: Tensor) -> Tensor:
    declared = b.node.outputs[0].dtype if b.node else self.dtype
    if class_of(self.dtype) != "f" or class_of(other.dtype) == "f" or declared != self.dtype:
        if {self.dtype, other.dtype} == {"float16", "bfloat16"} and not (self.rank and other.rank):
            raise Unsupported("a single element of one half dtype with another one, which PyTorch rounds differently")
        result = mul(b, self, pow_(b, 2.0, other))  # older versions of PyTorch do so for integer exponents too
        if result.dtype != declared:
            raise Unsupported("dtypes of which PyTorch's trace and its result differ; use an exponent like the base")
        return result
    exponent = b.cast(clamp(b, b.cast(other, "int32"), -377, 377), "float32")
    # Three powers of two within a float's range. The odd one comes first, so that a denormal is rounded only once.
    first = b.map("fmod(e, 126)", "float32", e=exponent)
    second = b.map("min(126, max(-126, e))", "float32", e=b.map("e - first", "float32", e=exponent, first=first))
    third = b.map("e - first - second", "float32", e=exponent, first=first, second=second)
    text = "x * exp2(first) * exp2(second) * exp2(third)"
    return b.map(text, self.dtype, compute="float32", x=self, first=first, second=second, third=third)


@lowering("aten.logit.default", "aten.special_logit.default")
def logit(b: Builder, self: Tensor, eps: float | None = None) -> Tensor:
    x = (
        self
        if eps is None
        else clamp(b, self if class_of(self.dtype) == "f" else b.cast(self, "float32"), eps, 1 - eps)
    )
    return elementwise(b, "float", "log(x / (1 - x))", ["x"], {"x": x})


@lowering("aten.round.decimals")
def round_decimals(b: Builder, self: Tensor, decimals: int) -> Tensor:
    if class_of(self.dtype) != "f":
        return self
    text = "round(self * ten) / ten" if decimals >= 0 else "round(self / ten) * ten"
    return elementwise(b, "same", text, ["self"], {"self": self, "ten": 10.0 ** abs(decimals)})


@lowering("aten.isclose.default")
def isclose(
    b: Builder, self: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """In the steps that PyTorch takes, each rounded to its dtype."""
    both, args = ["self", "other"], {"self": self, "other": other}
    if self.dtype == "bool":
        args["self"] = self = b.cast(self, "float32")
    equal = "(self == other or (self != self and other != other))" if equal_nan else "self == other"
    same = elementwise(b, "compare", equal, both, args)
    if rtol == 0 and atol == 0:
        return same
    if class_of(other.dtype) != "f":
        other = b.cast(other, "float32")
    allowed = add_(b, elementwise(b, "same", "abs(x)", ["x"], {"x": mul(b, other, rtol)}), atol)
    apart = elementwise(b, "same", "abs(x)", ["x"], {"x": sub(b, self, other)})
    near = elementwise(b, "compare", "x <= y", ["x", "y"], {"x": apart, "y": allowed})
    near = b.map("near and apart - apart == 0", "bool", near=near, apart=apart)  # no infinities
    return b.map("same or near", "bool", same=same, near=near)


@lowering("aten.gelu.default")
def gelu(b: Builder, self: Tensor, approximate: str = "none") -> Tensor:
    if approximate not in ("none", "tanh"):
        raise Refused(f"approximate {approximate!r}")
    return elementwise(
        b, "float", "gelu(self)" if approximate == "none" else "gelu_tanh(self)", ["self"], {"self": self}
    )


@lowering("aten.softshrink.default")
def softshrink(b: Builder, self: Tensor, lambd: Scalar = 0.5) -> Tensor:
    text = "self - max(-lambd, min(lambd, self))"
    if not 0 < lambd < math.inf:  # of infinities there is no difference, and of zeros a sign
        text = "self - lambd if self > lambd else self + lambd if self < -lambd else self if isnan(self) else 0.0"
    return elementwise(b, "float", text, ["self"], {"self": self, "lambd": lambd})


@lowering("aten.prelu.default", "aten._prelu_kernel.default")
def prelu(b: Builder, self: Tensor, weight: Tensor) -> Tensor:
    if weight.elements > 1 and weight.rank <= 1 and self.rank > 1:
        weight = b.reshape(weight, (weight.elements, *[1] * (self.rank - 2)))
    elif weight.elements == 1:
        weight = b.reshape(weight, ())
    return elementwise(b, "float", "self if self > 0 else self * weight", ["self"], {"self": self, "weight": weight})


@lowering("aten.rrelu.default")
def rrelu(b: Builder, self: Tensor, lower: float = 0.125, upper: float = 1 / 3, training: bool = False) -> Tensor:
    if training:
        raise Refused("it draws random numbers")
    slope = (lower + upper) / 2
    return elementwise(b, "float", "self if self >= 0 else self * slope", ["self"], {"self": self, "slope": slope})


@lowering("aten.glu.default")
def glu(b: Builder, self: Tensor, dim: int = -1) -> Tensor:
    d = dim % self.rank
    half = self.shape[d] // 2
    left, right = self.slice(d, 0, half), self.slice(d, half, half)
    return elementwise(b, "float", "left * sigmoid(right)", ["left"], {"left": left, "right": right})


@lowering("aten.clamp.default", "aten.clamp.Tensor", "aten.clip.default")
def clamp(b: Builder, self: Tensor, min: Tensor | Scalar | None = None, max: Tensor | Scalar | None = None) -> Tensor:
    given = {k: v for k, v in (("low", min), ("high", max)) if v is not None}
    text = "self"
    for name, rule in (("low", "max"), ("high", "min")):
        if name in given:  # of two zeros PyTorch takes the tensor's, else its own
            text = f"{rule}({text}, {name})" if isinstance(given[name], View) else f"{rule}({name}, {text})"
    return elementwise(b, "same", text, ["self", *given], {"self": self, **given})


@lowering("aten.clamp_min.default", "aten.clamp_min.Tensor")
def clamp_min(b: Builder, self: Tensor, min: Tensor | Scalar) -> Tensor:
    return clamp(b, self, min, None)


@lowering("aten.clamp_max.default", "aten.clamp_max.Tensor")
def clamp_max(b: Builder, self: Tensor, max: Tensor | Scalar) -> Tensor:
    return clamp(b, self, None, max)


@lowering("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def where(b: Builder, condition: Tensor, self: Tensor | Scalar, other: Tensor | Scalar) -> Tensor:
    return select(b, condition, self, other, promote([self, other]))


def select(b: Builder, condition: Tensor, yes: Tensor | Scalar, no: Tensor | Scalar, dtype: str) -> Tensor:
    """``where`` whose condition is not cast with the rest."""
    expr_args: dict[str, Any] = {}
    for name, value in (("yes", yes), ("no", no)):
        if not isinstance(value, View):
            value = b.full((), value, dtype)
        expr_args[name] = b.cast(value, dtype)
    if condition.dtype != "bool":
        condition = b.cast(condition, "bool")
    return b.map("yes if condition else no", dtype, condition=condition, **expr_args)


@lowering("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(b: Builder, self: Tensor, mask: Tensor, value: Tensor | Scalar) -> Tensor:
    shape = broadcast(self.shape, mask.shape)
    if not isinstance(value, View) and class_of(self.dtype) == "f":
        value = float(value)
    return select(b, mask, value, self.expand(shape), self.dtype)


@lowering("aten.nan_to_num.default")
def nan_to_num(
    b: Builder, self: Tensor, nan: Scalar | None = 0.0, posinf: Scalar | None = None, neginf: Scalar | None = None
) -> Tensor:
    if class_of(self.dtype) != "f":
        return self
    widest = 3.4028234663852886e38
    top = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}.get(self.dtype, widest)
    args = {"nan": nan or 0.0, "high": top if posinf is None else posinf, "low": -top if neginf is None else neginf}
    if posinf is None and neginf is None:
        finite = "max(low, min(high, self))"
        text = f"nan if isnan(self) else {finite}"
    elif all(abs(v) <= widest for v in args.values()):  # each choice leaves the others' numbers as they are
        text = "self"
        for test, name in (("{} == -inf", "low"), ("{} == inf", "high"), ("isnan({})", "nan")):
            text = f"({name} if {test.format(text)} else {text})"
    else:
        text = "nan if isnan(self) else high if self == inf else low if self == -inf else self"
    return elementwise(b, "same", text, ["self"], {"self": self, **args})


@lowering("aten.tril.default")
def tril(b: Builder, self: Tensor, diagonal: int = 0) -> Tensor:
    return _triangle(b, self, "row + diagonal >= column", diagonal)


@lowering("aten.triu.default")
def triu(b: Builder, self: Tensor, diagonal: int = 0) -> Tensor:
    return _triangle(b, self, "row + diagonal <= column", diagonal)


def _triangle(b: Builder, x: Tensor, text: str, diagonal: int) -> Tensor:
    rows, columns = x.shape[-2:]
    row = b.iota(rows).unsqueeze(1)
    keep = b.map(text, "bool", row=row, column=b.iota(columns), diagonal=diagonal)
    zero = 0.0 if class_of(x.dtype) == "f" else 0
    return select(b, keep.expand(x.shape), x, zero, x.dtype)
