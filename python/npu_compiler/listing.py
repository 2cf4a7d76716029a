"""Programs as text, for people and for golden files. `Program::text` gives exactly the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from .opset import OPS, Attr
from .view import dense_strides

__all__ = ["listing"]

_LONGEST_QUOTE = 120


def listing(data: dict[str, Any]) -> str:
    return "".join(f"{line}\n" for line in (*_header(data), *_functions(data)))


def _header(data: dict[str, Any]) -> list[str]:
    text = _Values(data)
    lines = [
        f"program {_name(data['model_name'])}" + (f" by {_quoted(data['producer'])}" if data.get("producer") else "")
    ]
    lines += [f"symbol {_name(s['name'])}: {s['min']} to {s['max']}" for s in data["symbols"]]
    for entry in data["inputs"]:
        marks = ("" if entry.get("required", True) else ", optional") + (", state" if entry.get("state") else "")
        lines.append(f"input {_name(entry['name'])}: {text.typed(entry['value'])}{marks}")
    for entry in data["outputs"]:
        marks = "".join(f", also {_name(name)}" for name in entry.get("names") or ())
        if entry.get("alias") is not None:
            marks += f", updates {_name(data['inputs'][entry['alias']]['name'])}"
        lines.append(f"output {_name(entry['name'])}: {text.typed(entry['value'])}{marks}")
    for kind in ("weight", "constant"):
        for entry in data[f"{kind}s"]:
            ties = "".join(f", also {_name(name)}" for name in entry.get("ties") or ())
            lines.append(f"{kind} {_name(entry['name'])}: {text.typed(entry['value'])}{ties}")
    return lines


def _functions(data: dict[str, Any]) -> list[str]:
    text, lines = _Values(data), []
    for function in ("prepare", "main"):
        ops = data[function]
        if ops or function == "main":
            lines.append(f"{function}: {len(ops)} op{'' if len(ops) == 1 else 's'}")
            lines += [f"  {text.op(op)}" for op in ops]
    return lines


class _Values:
    """Operands as text."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.values, self.symbols = data["values"], data["symbols"]

    def extent(self, extent: Any) -> str:
        if not isinstance(extent, dict):
            return str(extent)
        scale, offset = extent["scale"], extent["offset"]
        text = ("" if scale == 1 else f"{scale}*") + _name(self.symbols[extent["sym"]]["name"])
        return text + (f"{offset:+d}" if offset else "")

    def shape(self, shape: Sequence[Any]) -> str:
        return ",".join(map(self.extent, shape))

    def typed(self, at: int) -> str:
        return f"%{at} {self.values[at]['dtype']}[{self.shape(self.values[at]['shape'])}]"

    def operand(self, operand: Any) -> str:
        """%3, or %3[2,2 by 4,1 at 5] with extents, strides and offset."""
        if self.is_whole(operand):
            return f"%{_value(operand)}"
        at, shape, strides, offset = operand
        start = f" at {self.extent(offset)}" if offset else ""
        return f"%{at}[{self.shape(shape)} by {self.shape(strides)}{start}]"

    def result(self, result: Any) -> str:
        if result is None:
            return "-"
        at = _value(result)
        return self.typed(at) if self.is_whole(result) else f"{self.operand(result)} {self.values[at]['dtype']}"

    def is_whole(self, operand: Any) -> bool:
        """Whether it is all of the value, in its own shape."""
        if isinstance(operand, int):
            return True
        at, shape, strides, offset = operand
        if offset or shape != self.values[at]["shape"]:
            return False
        extents = [self._largest(extent) for extent in shape]
        return all(n <= 1 or s == d for n, s, d in zip(extents, strides, dense_strides(extents), strict=True))

    def _largest(self, extent: Any) -> int:
        if not isinstance(extent, dict):
            return int(extent)
        return int(extent["scale"] * self.symbols[extent["sym"]]["max"] + extent["offset"])

    def op(self, op: dict[str, Any]) -> str:
        absent = [None] * (len(OPS[op["op"]].outputs) - len(op["out"]))
        results, operands = ", ".join(map(self.result, [*op["out"], *absent])), ", ".join(self._operands(op))
        module = f" ({_name(op['module'])})" if op.get("module") else ""
        return f"{results} = {op['op']}({operands}){_attributes(op)}  # {_name(op['name'])}{module}"

    def _operands(self, op: dict[str, Any]) -> Iterator[str]:
        """The first operand has no name; the others have those of the op set."""
        names = [name.rstrip("?*") for name in OPS[op["op"]].inputs]
        for i, operand in enumerate(op["in"]):
            if operand is None:
                continue
            name = names[min(i, len(names) - 1)]
            if name == "extra":
                name = f"e{i + 2 - len(names) + bool((op.get('attrs') or {}).get('halves'))}"
            named = i > 0 and name != "operands"
            yield (f"{name}=" if named else "") + self.operand(operand)


def _value(operand: Any) -> int:
    return operand if isinstance(operand, int) else int(operand[0])


def _attributes(op: dict[str, Any]) -> str:
    """The attributes that differ from their defaults."""
    text = ""
    for name, attr in OPS[op["op"]].attrs.items():
        value = _attribute(op["op"], attr, (op.get("attrs") or {}).get(name))
        if value is not None and (attr.required or value != _attribute(op["op"], attr, attr.default)):
            text += f" {name}={value}"
    return text


def _attribute(op: str, attr: Attr, value: Any) -> str | None:
    if value is None:
        return None
    if attr.kind == "expr":
        return f'"{_expression(value, epilogue=op != "map")}"'
    if attr.kind in ("ints", "floats"):
        return f"[{','.join(_number(float(x)) if attr.kind == 'floats' else str(x) for x in value)}]"
    if attr.kind == "float":
        return _number(float(value))
    return str(value).lower() if attr.kind == "bool" else str(value)


_LIST, _COMPARE, _SUM, _PRODUCT, _WHOLE = range(5)
"""The precedence of operators, to set parentheses."""
_INFIX = {
    "add": ("+", _SUM), "sub": ("-", _SUM), "mul": ("*", _PRODUCT), "div": ("/", _PRODUCT),
    "eq": ("==", _COMPARE), "ne": ("!=", _COMPARE), "lt": ("<", _COMPARE), "le": ("<=", _COMPARE),
    "gt": (">", _COMPARE), "ge": (">=", _COMPARE),
}  # fmt: skip


def _expression(steps: Sequence[Sequence[Any]], epilogue: bool) -> str:
    """On one line. Shared steps get names, because the text could grow exponentially otherwise."""
    uses = [0] * len(steps)
    for step in steps:
        for at in _arguments(step):
            uses[at] += 1
    parts: list[tuple[str, int]] = []
    named = ""
    for i, step in enumerate(steps):
        part = _step(step, parts, epilogue)
        if step[0] not in ("in", "const") and uses[i] > 1 and i + 1 < len(steps):
            named += f"t{i} = {part[0]}; "
            part = (f"t{i}", _WHOLE)
        parts.append(part)
    return named + parts[-1][0]


def _arguments(step: Sequence[Any]) -> Sequence[int]:
    return () if step[0] in ("in", "const") else step[1:2] if step[0] == "cast" else step[1:]


def _step(step: Sequence[Any], parts: list[tuple[str, int]], epilogue: bool) -> tuple[str, int]:
    name, *args = step

    def take(at: int, least: int) -> str:
        text, strength = parts[at]
        return f"({text})" if strength < least else text

    if name == "in":
        return "acc" if epilogue and args[0] == 0 else f"e{args[0]}", _WHOLE
    if name == "const":
        return _constant(*args), _WHOLE
    if name == "neg":
        return f"-{take(args[0], _WHOLE)}", _PRODUCT
    if name in _INFIX:
        sign, strength = _INFIX[name]
        # To the right of a sign equals stand in parentheses; comparisons do on both sides.
        left = take(args[0], strength + 1 if strength == _COMPARE else strength)
        return f"{left} {sign} {take(args[1], strength + 1)}", strength
    function = args[1] if name == "cast" else name
    return f"{function}({', '.join(take(at, _LIST) for at in _arguments(step))})", _WHOLE


def _constant(value: Any, cls: str) -> str:
    if cls == "b":
        return "true" if value else "false"
    return str(int(value)) if cls == "i" else _number(float(value))


def _number(value: float) -> str:
    """The shortest text that reads back as the same number, with a point or an exponent."""
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    fixed = str(int(abs(value))) if exponent >= 0 else _fixed(text, exponent)
    scientific = _scientific(text, exponent)
    shortest = ("-" if sign else "") + (fixed if len(fixed) <= len(scientific) else scientific)
    return shortest if set(shortest) & set(".e") else f"{shortest}.0"


def _fixed(digits: str, exponent: int) -> str:
    point = len(digits) + exponent
    return f"{digits[:point]}.{digits[point:]}" if point > 0 else f"0.{'0' * -point}{digits}"


def _scientific(digits: str, exponent: int) -> str:
    power = exponent + len(digits) - 1
    return digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "") + f"e{power:+03d}"


def _name(name: str) -> str:
    """Quoted when it could be mistaken for something else."""
    plain = name and all(" " < c <= "~" and c not in '"\\#' for c in name)
    return name if plain else _quoted(name)


def _quoted(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    escaped = "".join(
        f"\\{chr(byte)}" if byte in b'"\\' else chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"
        for byte in data[:_LONGEST_QUOTE]
    )
    return f'"{escaped}"' + (f"... ({len(data)} bytes)" if len(data) > _LONGEST_QUOTE else "")
