"""Programs as text, for people and for golden files."""

from __future__ import annotations

from typing import Any


def listing(data: dict[str, Any]) -> str:
    values = data["values"]
    lines = [f"program {data['model_name']}"]
    for section in ("inputs", "weights", "constants"):
        for entry in data[section]:
            value = values[entry["value"]]
            marks = [m for m, on in (("state", entry.get("state")), ("optional", entry.get("required") is False)) if on]
            marks += [f"ties {', '.join(entry['ties'])}"] if entry.get("ties") else []
            lines.append(f"  {section[:-1]} {entry['name']}: {_type(value)}{_in_brackets(marks)}")
    for section in ("prepare", "main"):
        if data[section]:
            lines.append(f"{section}:")
            lines += [f"  {_op(op, values)}" for op in data[section]]
    for entry in data["outputs"]:
        marks = [f"updates {data['inputs'][entry['alias']]['name']}"] if entry.get("alias") is not None else []
        marks += [f"also {', '.join(entry['names'])}"] if entry.get("names") else []
        lines.append(f"output {entry['name']} = %{values[entry['value']]['name']}{_in_brackets(marks)}")
    return "\n".join(lines) + "\n"


def _in_brackets(marks: list[str]) -> str:
    return f" ({'; '.join(marks)})" if marks else ""


def _type(value: dict[str, Any]) -> str:
    return f"{value['dtype']}{value['shape']}".replace(" ", "")


def _operand(operand: Any, values: list[dict[str, Any]]) -> str:
    if operand is None:
        return "-"
    if isinstance(operand, int):
        return f"%{values[operand]['name']}"
    at, shape, strides, offset = operand
    return f"%{values[at]['name']}{shape}:{strides}+{offset}".replace(" ", "")


def _op(op: dict[str, Any], values: list[dict[str, Any]]) -> str:
    outs = ", ".join(_operand(o, values) + (f": {_type(values[o])}" if isinstance(o, int) else "") for o in op["out"])
    parts = [_operand(o, values) for o in op["in"]]
    for key, value in op.get("attrs", {}).items():
        parts.append(f"{key}={formula(value)}" if key in ("expr", "epilogue") else f"{key}={value}".replace(" ", ""))
    module = f"  # {op['module']}" if op.get("module") else ""
    return f"{outs} = {op['op']}({', '.join(parts)}){module}"


def formula(steps: list[list[Any]]) -> str:
    """The expression in one line; steps that are used often are named."""
    uses: dict[int, int] = {}
    for name, *args in steps:
        for a in _arguments(name, args):
            uses[a] = uses.get(a, 0) + 1
    texts: list[str] = []
    named: list[str] = []
    for i, (name, *args) in enumerate(steps):
        if name == "in":
            text = f"${args[0]}"
        elif name == "const":
            text = str(args[0])
        elif name == "cast":
            text = f"{args[1]}({texts[args[0]]})"
        else:
            text = f"{name}({', '.join(texts[a] for a in args)})"
        if uses.get(i, 0) > 1 and name not in ("in", "const"):
            named.append(f"t{len(named)}={text}")
            text = f"t{len(named) - 1}"
        texts.append(text)
    return "{" + "; ".join([*named, texts[-1]]) + "}"


def _arguments(name: str, args: list[Any]) -> list[int]:
    return [] if name in ("in", "const") else args[:1] if name == "cast" else args
