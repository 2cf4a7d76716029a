"""Weights that are stored as small integers: the weights of the program that stand for one of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from npu_base.errors import InvalidTypeError, InvalidValueError
from npu_base.quantization import MULTIPLES, OFFSETS, ORDER_DTYPE, SCALE_DTYPES, Scheme

from .exprs import class_of
from .graph import Graph, Op, Value, View, whole
from .lowering import Builder
from .ops.gather import along_axis
from .opset import DTYPES
from .reader import Meta, Model

__all__ = ["BITS", "add_quantized", "schemes_of"]

BITS = (2, 3, 4, 6, 8)


def schemes_of(model: Model, quantized: Mapping[str, Scheme] | None) -> dict[str, Scheme]:
    """The table by the names that the program uses, which must be those of weights that can be quantised."""
    if quantized is None:
        return {}
    if not isinstance(quantized, Mapping):
        got = type(quantized).__name__
        raise InvalidTypeError(f"[compiler] quantized is a {got}; expected a dict of schemes by the names of weights")
    metas = {meta.name: meta for meta in model.weights}
    mutated = {target for target, kind, _ in model.mutations if kind == "buffer"}
    schemes: dict[str, Scheme] = {}
    for given, scheme in quantized.items():
        mapped = model.mapping.get(given, given)
        name = model.ties.get(mapped, mapped)
        _check_scheme(given, scheme)
        if schemes.setdefault(name, scheme) != scheme:
            raise InvalidValueError(
                f"[compiler] the weight '{given}' is tied to '{name}', which has another scheme; got {scheme} and "
                f"{schemes[name]}; expected one scheme for both"
            )
        meta = metas.get(name)
        if meta is None or name in model.constants:
            raise InvalidValueError(f"[compiler] '{given}' cannot be quantised; expected the name of a weight")
        if meta.dtype not in DTYPES or class_of(meta.dtype) != "f" or not meta.shape or name in mutated:
            what = "it is updated in place" if name in mutated else f"it is {meta.dtype}{list(meta.shape)}"
            raise InvalidValueError(
                f"[compiler] '{given}' cannot be quantised: {what}; expected a floating-point weight of at least one "
                "dimension that the model only reads"
            )
    _check_orders(schemes, metas)
    return schemes


def _check_orders(schemes: Mapping[str, Scheme], metas: Mapping[str, Meta]) -> None:
    """An order is a weight besides those of the model, and moves columns of one number."""
    depths: dict[str, int] = {}
    for name, scheme in schemes.items():
        if not scheme.order:
            continue
        depth = metas[name].shape[-1]
        if depths.setdefault(scheme.order, depth) != depth or scheme.order in metas:
            what = "a weight of the model" if scheme.order in metas else f"that of {depths[scheme.order]} columns"
            raise InvalidValueError(
                f"[compiler] '{name}' of {depth} columns cannot have the order '{scheme.order}'; got {what}; expected "
                "a name that only weights with as many columns give"
            )


def _check_scheme(name: str, scheme: Any) -> None:
    if not isinstance(scheme, Scheme):
        got = type(scheme).__name__
        raise InvalidTypeError(f"[compiler] the scheme of '{name}' is a {got}; expected a Scheme")
    if scheme.bits not in BITS or scheme.group < 0 or scheme.offset not in OFFSETS or not scheme.fits_units:
        raise InvalidValueError(
            f"[compiler] the scheme of '{name}' is not supported; got {scheme!r}; expected bits in {BITS}, a group of "
            f"at least 0, an offset in {OFFSETS}, and dtypes in {SCALE_DTYPES}, or with units of whole groups "
            f"{MULTIPLES}"
        )


def add_quantized(builder: Builder, name: str, meta: Meta, scheme: Scheme) -> View:
    """Adds the integers, scales, offsets, units and order to the weights of the program; returns their numbers."""
    graph = builder.graph
    parts = scheme.parts(meta.shape)
    inputs: dict[str, View] = {}
    for suffix, (dtype, shape) in parts.items():
        inputs[suffix] = _weight(graph, name + suffix, dtype, shape)
    for other, target in [*graph.ties.items()]:
        if target == name:
            graph.ties.update({other + suffix: name + suffix for suffix in parts if suffix})
    numbers = whole(graph.temp(f"{name}.numbers", meta.dtype, meta.shape))
    attrs = {
        "bits": scheme.bits,
        "group": scheme.group,
        "offset": scheme.offset,
        "signed_integers": scheme.signed,
        "unit": scheme.unit,
    }
    operands = [inputs.get(suffix) for suffix in ("", ".scales", ".offsets", ".units")]
    while operands[-1] is None:
        operands.pop()
    graph.append(Op("dequantize", builder.op_name(numbers.value.name), tuple(operands), (numbers,), attrs))
    return _moved(builder, name, numbers, scheme.order) if scheme.order else numbers


def _moved(builder: Builder, name: str, stored: View, order: str) -> View:
    """The numbers with each column in its place."""
    graph = builder.graph
    known = next((whole(value) for value in graph.weights if graph.labels.get(value) == order), None)
    places = known or _weight(graph, order, ORDER_DTYPE, stored.shape[-1:])
    each = View(places.value, stored.shape, (*[0] * (stored.rank - 1), 1), 0)
    moved = whole(graph.temp(f"{name}.moved", stored.dtype, stored.shape))
    attrs = {"kind": "set", **along_axis(stored, stored.rank - 1)}
    graph.append(Op("scatter", builder.op_name(moved.value.name), (stored, stored, each), (moved,), attrs))
    return moved


def _weight(graph: Graph, name: str, dtype: str, shape: Sequence[int]) -> View:
    value = Value(graph.unique(name), dtype, tuple(shape), "weight")
    graph.weights.append(value)
    graph.labels[value] = name
    return whole(value)
