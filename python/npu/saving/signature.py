"""The signature of a saved model: the names, shapes and dtypes of its tensors, and how they are nested. Plain JSON."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from npu_base.errors import NPUError
from npu_base.nesting import (
    DEEPEST,
    TAGS,
    has_other_objects,
    is_encoded,
    is_key,
    leaf_entries,
    size_text,
    traced_names,
    tuple_fields,
)
from npu_base.sizes import Size, SizeError

from npu.saving.container import refuse

__all__ = ["Signature", "TensorEntry", "class_at", "make_signature", "read_signature", "sizes_returned", "user_names"]

_KINDS = ("tuple", "list", "dict", "object")
_FORMS = ("named tuple", "dataclass")


@dataclasses.dataclass(frozen=True)
class TensorEntry:
    name: str
    shape: tuple[Any, ...]
    """Of ints, and of expressions of sizes that are open."""
    dtype: str
    user_name: str = ""

    def to_dict(self) -> dict[str, Any]:
        shape = [n.text if isinstance(n, Size) else n for n in self.shape]
        return {"name": self.name, "shape": shape, "dtype": self.dtype, "user_name": self.user_name}


@dataclasses.dataclass(frozen=True)
class Signature:
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    input_structure: Any = None
    output_structure: Any = None
    parameters: tuple[str, ...] = ()
    """The names of the positional parameters of ``forward``."""
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The constants that parameters have that the example inputs left out, encoded as those of the structures."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "inputs": [entry.to_dict() for entry in self.inputs],
            "outputs": [entry.to_dict() for entry in self.outputs],
            "input_structure": self.input_structure,
            "output_structure": self.output_structure,
            "parameters": list(self.parameters),
            **({"defaults": dict(self.defaults)} if self.defaults else {}),
        }


def sizes_returned(structure: Any) -> list[Any]:
    """The expressions of sizes among the results."""
    entries = leaf_entries(structure) if isinstance(structure, dict) else ()
    texts = [size_text(entry.get("value")) for entry in entries]
    return [text for text in texts if text is not None]


def make_signature(ir: Any, parameters: Iterable[str] = (), defaults: Mapping[str, Any] | None = None) -> Signature:
    """Of an IR object. Classes in its structures are looked up now, to note what kind of class each is. ``defaults``
    are those of ``forward``; those of arguments that the IR has are left out."""
    inputs = tuple(TensorEntry(t.name, tuple(t.shape), t.dtype, t.name) for t in ir.graph_inputs)
    outputs = tuple(
        TensorEntry(t.name, tuple(t.shape), t.dtype, user)
        for t, user in zip(ir.graph_outputs, user_names(ir), strict=True)
    )
    output_structure = ir.output_structure
    if output_structure is None and len(outputs) == 1:
        output_structure = {"tensor": 0}
    names = tuple(parameters)
    left_out = dict(defaults or {}) if ir.input_structure is not None else {}
    for name in traced_names(ir.input_structure, names) if left_out else ():
        left_out.pop(name, None)
    return Signature(inputs, outputs, _with_forms(ir.input_structure), _with_forms(output_structure), names, left_out)


def user_names(ir: Any) -> list[str]:
    """Different names for the outputs: those that the user chose, or keys and fields of what the module returns, or
    else ``output``, or ``output_0`` and so on if there are several."""
    count = len(ir.graph_outputs)
    names: list[str] = []
    for i, chosen in enumerate([*ir.output_names, *[None] * (count - len(ir.output_names))]):
        name = chosen or ("output" if count == 1 else f"output_{i}")
        while name in names:
            name += "_"
        names.append(name)
    return names


def _with_forms(structure: Any) -> Any:
    if not isinstance(structure, dict) or "items" not in structure:
        return structure
    result = {**structure, "items": [_with_forms(item) for item in structure["items"]]}
    if structure["kind"] == "object":
        cls = class_at(structure.get("type"))
        if tuple_fields(cls) is not None:
            result["form"] = "named tuple"
        elif cls is not None and dataclasses.is_dataclass(cls):
            result["form"] = "dataclass"
    return result


def class_at(path: Any) -> type | None:
    """The class of this name if its module is imported already. Nothing is imported."""
    parts = str(path).split(".")
    for n in range(len(parts) - 1, 0, -1):
        at: Any = sys.modules.get(".".join(parts[:n]))
        if at is None:
            continue
        for part in parts[n:]:
            at = vars(at).get(part) if hasattr(at, "__dict__") else None
        return at if isinstance(at, type) else None
    return None


def read_signature(data: Any, file: str, open_sizes: bool = False) -> Signature:
    """Checked: every name, shape and index in it is valid. ``open_sizes``: shapes may have expressions."""
    fields = _object(data, file, "signature", ("inputs", "outputs", "input_structure", "output_structure"))
    inputs, outputs = (_entries(fields[key], file, key, open_sizes) for key in ("inputs", "outputs"))
    _check_structure(fields["input_structure"], len(inputs), file, "input_structure")
    _check_arguments(fields["input_structure"], file)
    _check_structure(fields["output_structure"], len(outputs), file, "output_structure")
    if not open_sizes and (texts := sizes_returned(fields["output_structure"])):
        _bad(file, "'output_structure' has a size, but no size is open", f"{texts[0]!r:.60}", "a number")
    parameters = fields.get("parameters", [])
    if not isinstance(parameters, list) or not all(isinstance(name, str) for name in parameters):
        _bad(file, "'parameters' is not valid", f"{parameters!r:.60}", "a list of names")
    defaults = fields.get("defaults", {})
    if not isinstance(defaults, dict) or not all(map(_is_constant, defaults.values())):
        _bad(file, "'defaults' is not valid", f"{defaults!r:.60}", "an object of constants")
    for name, value in defaults.items():
        _check_constant(value, file, f"'defaults' has a value that is not valid, of '{name}'")
    structures = fields["input_structure"], fields["output_structure"]
    return Signature(inputs, outputs, *structures, tuple(parameters), defaults)


def _is_constant(value: Any) -> bool:
    return is_encoded(value) or isinstance(value, bool | int | float | str | type(None))


def _check_constant(value: Any, file: str, what: str) -> None:
    """That a value of PyTorch is one, if PyTorch is here. It is not imported because a file names it."""
    if has_other_objects(value):
        _bad(file, what, f"{value!r:.60}", f"a constant, or an object with one of the keys {', '.join(sorted(TAGS))}")
    if size_text(value) is not None or not is_encoded(value) or "torch" not in sys.modules:
        return
    from torch_ir._encoding import decode_attr

    try:
        decode_attr(value, "", "")
    except NPUError:
        _bad(file, what, f"{value!r:.60}", "a constant of PyTorch, such as {'$dtype': 'float32'}")


def _object(data: Any, file: str, what: str, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(data, dict) or any(key not in data for key in keys):
        got = f"the keys {', '.join(map(str, data))}" if isinstance(data, dict) else type(data).__name__
        _bad(file, f"'{what}' is not valid", got, f"an object with {', '.join(keys)}")
    return data


def _is_extent(n: Any, open_sizes: bool) -> bool:
    if open_sizes and isinstance(n, str):
        try:
            return bool(Size(n))
        except SizeError:
            return False
    return type(n) is int and 0 <= n < 1 << 62


def _entries(data: Any, file: str, what: str, open_sizes: bool) -> tuple[TensorEntry, ...]:
    if not isinstance(data, list):
        _bad(file, f"'{what}' is not valid", type(data).__name__, "a list")
    entries = []
    for i, item in enumerate(data):
        where = f"{what}[{i}]"
        item = _object(item, file, where, ("name", "shape", "dtype", "user_name"))
        for key in ("name", "dtype", "user_name"):
            if not isinstance(item[key], str) or not item[key]:
                _bad(file, f"'{where}.{key}' is not valid", f"{item[key]!r:.60}", "a string")
        shape = item["shape"]
        if not isinstance(shape, list) or not all(_is_extent(n, open_sizes) for n in shape):
            _bad(file, f"'{where}.shape' is not valid", f"{shape!r:.60}", "a list of sizes")
        extents = tuple(Size(n) if isinstance(n, str) else n for n in shape)
        entries.append(TensorEntry(item["name"], extents, item["dtype"], item["user_name"]))
    for field in ("name", "user_name"):
        names = [getattr(entry, field) for entry in entries]
        if (what, field) != ("outputs", "name") and len(set(names)) != len(names):
            _bad(file, f"two of '{what}' have the same name", f"{names!r:.100}", "names that differ")
    return tuple(entries)


def _check_structure(structure: Any, count: int, file: str, what: str) -> None:
    if structure is None:
        return
    seen: list[int] = []

    def walk(node: Any, depth: int) -> None:
        if depth > DEEPEST:
            _bad(file, f"'{what}' is nested too deeply", None, f"at most {DEEPEST} levels")
        if not isinstance(node, dict):
            _bad(file, f"'{what}' is not valid", f"{node!r:.60}", "an object")
        if "tensor" in node:
            index = node["tensor"]
            if type(index) is not int or not 0 <= index < count:
                _bad(file, f"'{what}' has no valid tensor number", f"{index!r:.60}", f"a number below {count}")
            seen.append(index)
        elif "kind" in node:
            _check_node(node, file, what)
            for item in node["items"]:
                walk(item, depth + 1)
        elif "value" in node:
            _check_constant(node["value"], file, f"'{what}' has a value that is not valid")
        else:
            _bad(file, f"'{what}' is not valid", f"{node!r:.60}", "a tensor, a value or a container")

    walk(structure, 0)
    if what == "input_structure" and seen != list(range(count)):
        _bad(file, f"'{what}' does not have each input once, in order", f"{seen!r:.60}", f"0 to {count - 1}")


def _check_arguments(structure: Any, file: str) -> None:
    """Arguments by position, and by name."""
    items = [] if structure is None else structure.get("items")
    kinds = [item.get("kind") for item in items or ()]
    if structure is not None and kinds != ["tuple", "dict"]:
        _bad(file, "'input_structure' is not valid", f"{kinds!r:.60}", "a tuple of a tuple and a dict")


def _check_node(node: dict[str, Any], file: str, what: str) -> None:
    items, keys = node.get("items"), node.get("keys")
    if node["kind"] not in _KINDS or not isinstance(items, list):
        _bad(file, f"'{what}' has no valid container", f"{node!r:.60}", f"one of {', '.join(_KINDS)} with items")
    valid = isinstance(keys, list) and all(map(is_key, keys))
    valid = valid and len(set(keys or ())) == len(keys or ()) == len(items)
    if (keys is None and node["kind"] == "dict") or (keys is not None and not valid):
        _bad(file, f"'{what}' has a container with wrong keys", f"{keys!r:.60}", "a different key for each item")
    if node["kind"] == "object" and not isinstance(node.get("type"), str):
        _bad(file, f"'{what}' has an object without a type", f"{node.get('type')!r:.60}", "the name of a class")
    if node.get("form") not in (None, *_FORMS):
        _bad(file, f"'{what}' has an object of an unknown form", f"{node['form']!r:.60}", " or ".join(_FORMS))


def _bad(file: str, what: str, got: object, expected: str) -> NoReturn:
    refuse(file, what, section="manifest", got=got, expected=expected)
