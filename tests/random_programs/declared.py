"""Ops at random whose rules the op set states in full: nothing but the declaration is needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from npu_compiler.opset import OPS, OpDef

from .making import Making
from .values import DTYPES, FLOATS, INTEGERS, Unsuitable, View, finite

_KINDS = {"float": FLOATS, "integer": INTEGERS}


def declared() -> dict[str, Callable[[Making], None]]:
    """By name, for every op that has rules."""
    return {name: lambda m, op=op: _add(m, op) for name, op in OPS.items() if op.rules is not None}


def _add(m: Making, op: OpDef) -> None:
    rules = [rule.split() for rule in op.rules or ()]
    axes = {words[3]: words[1] for words in rules if words[0] == "axis"}  # operand: attribute
    operands: dict[str, View | None] = {}
    for name in op.inputs:
        operands[name.rstrip("?")] = _operand(m, name.rstrip("?"), rules, operands, low=int(name in axes))
    results = [_result(name.rstrip("?"), rules, operands) for name in op.outputs]
    optional = [k for k, name in enumerate(op.outputs) if name.endswith("?")]
    if len(optional) > 1 and (left_out := m.c.int(0, len(optional))):
        results[optional[left_out - 1]] = None
    attrs = {
        name: m.c.int(0, len(operands[next(x for x in axes if axes[x] == name)].shape) - 1)  # type: ignore[union-attr]
        if name in axes.values()
        else _attribute(m, attr)
        for name, attr in op.attrs.items()
    }
    views = [operands[name.rstrip("?")] for name in op.inputs]
    exact = bool(op.moves) or all(v is None or v.dtype not in FLOATS for v in views)
    if not exact and not finite(*(v.array for v in views if v is not None)):
        raise Unsuitable
    m.add(op.name, views, results, attrs, exact=exact)


def _operand(m: Making, name: str, rules: list[list[str]], known: dict[str, View | None], low: int) -> View:
    for words in rules:
        like = known.get(words[1]) if words[0] == "same" and words[2] == name else None
        if like is not None:
            return m.view_of((like.dtype,), like.shape)
    dtypes = next((_KINDS[words[0]] for words in rules if words[0] in _KINDS and words[1] == name), DTYPES)
    return m.view(dtypes, low=low)


def _result(name: str, rules: list[list[str]], operands: dict[str, View | None]) -> tuple[str, tuple[int, ...]]:
    """Its dtype and shape."""
    dtype, shape = "", None
    for words in rules:
        if words[0] == "same" and words[2] == name:
            like = operands[words[1]]
            assert like is not None
            dtype, shape = like.dtype, like.shape
        elif words[0] in ("shape", "dtype") and words[1] == name:
            source = operands.get(re.sub(r"sum\((\w+)\)", r"\1", words[3]))
            if words[0] == "shape":
                assert source is not None
                shape = source.shape
            elif source is None:
                dtype = words[3]
            else:
                dtype = "int64" if words[3].startswith("sum(") and source.dtype not in FLOATS else source.dtype
    assert dtype and shape is not None, f"no rule says what '{name}' is"
    return dtype, shape


def _attribute(m: Making, attr: Any) -> Any:
    if attr.kind == "choice":
        return m.c.pick(attr.choices)
    if attr.kind == "bool":
        return m.c.one_in(2)
    if attr.kind in ("int", "float"):
        return m.c.pick((1, 2, 3)) if attr.kind == "int" else m.c.pick((0.5, 1.0, 2.0))
    raise NotImplementedError(f"attributes of kind {attr.kind} need a maker in tests/random_programs/ops.py")
