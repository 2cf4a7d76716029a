"""Checks that the JSON of a file has the structure of a program, so that it can be printed and described safely.

The core, which runs it, checks its meaning: bounds, classes, order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from .opset import DTYPES, EXPRESSION_OPS, OPS, Attr

__all__ = ["is_step", "validate"]

_INTEGERS = frozenset({int})  # not bool
_LISTS = ("symbols", "values", "inputs", "outputs", "weights", "constants", "prepare", "main")


def validate(data: Any, size: int) -> None:
    """Raises ValueError with what is wrong. ``size`` is the size of the constants in bytes."""
    if not isinstance(data, dict) or not isinstance(data.get("model_name"), str):
        raise ValueError("its JSON has no model_name")
    _need(isinstance(data.get("producer"), str), "its JSON has no producer")
    for key in _LISTS:
        _all(data.get(key), f"'{key}'", lambda entry: isinstance(entry, dict))
    for symbol in data["symbols"]:
        _need(isinstance(symbol.get("name"), str), "a symbol has no name")
        _need(_is_int(symbol.get("min")) and _is_int(symbol.get("max")), f"symbol '{symbol['name']}' has no bounds")
    symbols = len(data["symbols"])
    for value in data["values"]:
        _need(isinstance(value.get("name"), str), "a value has no name")
        _need(_is_one_of(value.get("dtype"), DTYPES), f"value '{value['name']}' has the dtype {value.get('dtype')!r}")
        _all(value.get("shape"), f"the shape of '{value['name']}'", lambda extent: _is_extent(extent, symbols))
    count = len(data["values"])
    for section in ("inputs", "outputs", "weights", "constants"):
        for entry in data[section]:
            _need(isinstance(entry.get("name"), str), f"an entry of '{section}' has no name")
            _need(_is_id(entry.get("value"), count), f"'{entry['name']}' of '{section}' does not refer to a value")
            for key in ("names", "ties"):
                _all(entry.get(key, []), f"'{key}' of '{entry['name']}'", lambda name: isinstance(name, str))
    for entry in data["outputs"]:
        alias = entry.get("alias")
        _need(alias is None or _is_id(alias, len(data["inputs"])), f"the alias of '{entry['name']}' is not an input")
    for entry in data["constants"]:
        _need(_is_id(entry.get("offset"), size + 1), f"constant '{entry['name']}' lies outside the file")
    mapping = data.get("weight_name_mapping", {})
    _need(isinstance(mapping, dict) and _strings(mapping.values()), "'weight_name_mapping' does not map names to names")
    for op in (*data["prepare"], *data["main"]):
        _op(op, count, symbols)


def _op(op: dict[str, Any], count: int, symbols: int) -> None:
    _need(isinstance(op.get("name"), str), "an op has no name")
    where = f"op '{op['name']}'"
    _need(_is_one_of(op.get("op"), OPS), f"{where} is a {op.get('op')!r}, which is not in the op set")
    for key in ("in", "out"):
        _all(op.get(key), f"'{key}' of {where}", lambda operand: _is_operand(operand, count, symbols))
    rule = OPS[op["op"]]
    any_number = bool(rule.inputs) and rule.inputs[-1].endswith("*")
    _need(any_number or len(op["in"]) <= len(rule.inputs), f"{where} has {len(op['in'])} operands")
    attrs = op.get("attrs", {})
    _need(isinstance(attrs, dict), f"the attributes of {where} are not an object")
    for key, attr in rule.attrs.items():
        value = attrs.get(key)
        if attr.kind != "expr":
            _need(value is None or _is_attr(attr, value), f"'{key}' of {where} is {value!r:.60}")
        elif value is not None:
            _all(attrs[key], f"'{key}' of {where}", lambda step: isinstance(step, list) and bool(step))
            _need(bool(attrs[key]), f"'{key}' of {where} is empty")
            for at, step in enumerate(attrs[key]):
                _need(is_step(step, at), f"step {at} of '{key}' of {where} is {step!r}")
    _all(op.get("nodes", []), f"'nodes' of {where}", lambda name: isinstance(name, str))
    _need(isinstance(op.get("module", ""), str), f"'module' of {where} is not a string")


def _need(fine: bool, what: str) -> None:
    if not fine:
        raise ValueError(what)


def _all(entries: Any, what: str, fits: Callable[[Any], bool]) -> None:
    if not isinstance(entries, list) or not all(fits(entry) for entry in entries):
        raise ValueError(f"{what} is missing or malformed")


def _strings(entries: Iterable[Any]) -> bool:
    return all(isinstance(entry, str) for entry in entries)


def _is_one_of(x: Any, names: Collection[str]) -> bool:
    return isinstance(x, str) and x in names


def _is_int(x: Any) -> bool:
    return type(x) is int


def _is_id(x: Any, count: int) -> bool:
    return _is_int(x) and 0 <= x < count


def _is_number(x: Any) -> bool:
    return (isinstance(x, int | float) and not isinstance(x, bool)) or _is_one_of(x, ("inf", "-inf", "nan"))


def _is_attr(attr: Attr, x: Any) -> bool:
    if attr.kind in ("ints", "floats"):
        return isinstance(x, list) and all(map(_is_int if attr.kind == "ints" else _is_number, x))
    if attr.kind == "choice":
        return _is_one_of(x, attr.choices)
    return {"int": _is_int, "float": _is_number, "bool": lambda x: isinstance(x, bool)}[attr.kind](x)


def _is_extent(x: Any, symbols: int) -> bool:
    if isinstance(x, dict):
        return _is_id(x.get("sym"), symbols) and _is_int(x.get("scale")) and _is_int(x.get("offset"))
    return _is_int(x) and 0 <= x < 2**40


def _is_operand(x: Any, count: int, symbols: int) -> bool:
    if x is None or _is_id(x, count):
        return True
    if not isinstance(x, list) or len(x) != 4 or not _is_id(x[0], count):
        return False
    if not isinstance(x[1], list) or not isinstance(x[2], list) or len(x[1]) != len(x[2]):
        return False
    return all(_is_extent(extent, symbols) for extent in x[1]) and all(map(_is_int, [*x[2], x[3]]))


def is_step(step: list[Any], at: int) -> bool:
    name, args = step[0], step[1:]
    if name == "in":
        return len(args) == 1 and _is_int(args[0])
    if name == "const":
        if len(args) != 2 or not _is_one_of(args[1], ("f", "i", "b")):
            return False
        return _is_number(args[0]) if args[1] == "f" else isinstance(args[0], int)
    if name == "cast":
        return len(args) == 2 and _is_id(args[0], at) and _is_one_of(args[1], DTYPES)
    rule = EXPRESSION_OPS.get(name) if isinstance(name, str) else None
    if rule is None or len(args) != len(rule.takes) or not _INTEGERS.issuperset(map(type, args)):
        return False
    return min(args, default=0) >= 0 and max(args, default=-1) < at
