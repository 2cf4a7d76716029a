"""Reads the JSON of an IR into plain records with decoded attributes, and refuses malformed input."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from npu_base.errors import InvalidTypeError, is_program
from npu_base.files import PROGRAM_MAGIC, SAVED_MAGIC, read_file
from npu_base.specs import TensorSpec

from .errors import IRError, UpdateError

__all__ = ["Meta", "Model", "Node", "load_ir", "malformed", "numpy_dtype", "read_ir", "read_node"]

SCHEMA_VERSION = 2
_INTEGERS = frozenset({int})  # not bool
_PLAIN = frozenset({int, float, bool, type(None)})
_RUN_IT = (
    "expected the IR that it was made from; to run all of it on a device, try npu_runtime.Executor(program, Device()) "
    "or `npu run`, and `npu plan` to see what it does"
)


@dataclass
class Meta(TensorSpec):
    """``producer`` is the node that computes it, if the file says so, and ``index`` the number of the result."""

    shape: tuple[int, ...]
    producer: str | None = None
    index: int = 0


@dataclass(slots=True)
class Node:
    name: str
    op_type: str
    inputs: list[Meta]
    outputs: list[Meta]
    attrs: dict[str, Any]
    absent: frozenset[str] | None = None
    module: str = ""
    source: str = ""


@dataclass(slots=True)
class Model:
    name: str
    inputs: list[Meta]
    outputs: list[Meta]
    weights: list[Meta]
    mapping: dict[str, str]
    nodes: list[Node]
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    ties: dict[str, str] = field(default_factory=dict)
    mutations: list[tuple[str, str, Meta]] = field(default_factory=list)
    output_names: list[str | None] = field(default_factory=list)


def numpy_dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
    except TypeError:
        raise IRError(f"[compiler] a tensor has the dtype '{name}', which programs do not have") from None


def load_ir(ir: Any) -> Mapping[str, Any]:
    """The JSON object of a path, a dict or an object with ``to_dict()``."""
    if isinstance(ir, Mapping):
        return ir
    if isinstance(ir, str | os.PathLike):
        path, raw = os.fspath(ir), read_file(ir, "[compiler] IR file not found")
        if raw.startswith(PROGRAM_MAGIC):
            raise IRError(f"[compiler] {path} is not an IR file; got a compiled program; {_RUN_IT}")
        if raw.startswith(SAVED_MAGIC):
            raise IRError(f"[compiler] {path} is not an IR file; got a saved model; try npu.load(path)")
        try:
            data = json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise IRError(f"[compiler] {path} is not an IR file: {error}") from None
        if not isinstance(data, dict):
            raise IRError(f"[compiler] {path} is not an IR file: expected a JSON object, got {type(data).__name__}")
        return data
    if callable(getattr(ir, "to_dict", None)):
        data = ir.to_dict()
        if isinstance(data, Mapping):
            return data
    got, hint = type(ir).__name__, ""
    if is_program(ir):
        hint = f"; {_RUN_IT}"
    elif hasattr(ir, "forward"):
        hint = "; expected its IR; try torch_ir.extract_ir(module, example_inputs)"
    hint = hint or "; expected an IR, its dict or the path of its file"
    raise InvalidTypeError(f"[compiler] this is not an IR; got {got}{hint}")


def check_fixed(data: Mapping[str, Any]) -> None:
    if data.get("sizes"):
        with malformed("the sizes"):
            names = [_text(size["name"], "a name of sizes") for size in _list(data["sizes"])]
        raise IRError(
            f"[compiler] the IR has open sizes; got {', '.join(names)}; expected fixed shapes; "
            f"try ir.specialize({', '.join(f'{name}=4' for name in names)})"
        )


def check_updates(updates: Iterable[tuple[str, str]]) -> None:
    """``updates`` are the targets that the model writes, and their kinds."""
    for target, kind in updates:
        if kind not in ("input", "buffer"):
            raise UpdateError(
                f"[compiler] the model writes its {kind} '{target}' in place; expected in-place writes only to inputs "
                "and buffers; try registering it as a buffer"
            )


def read_ir(ir: Any) -> Model:
    data = load_ir(ir)
    version = data.get("schema_version", 1)
    check_fixed(data)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise IRError(f"[compiler] the IR has schema version {version!r}; expected at most {SCHEMA_VERSION}")
    with malformed("the graph"):
        model = Model(
            name=_text(data.get("model_name") or "", "model_name"),
            inputs=[_meta(t) for t in _list(data["graph_inputs"])],
            outputs=[_meta(t) for t in _list(data["graph_outputs"])],
            weights=[_meta(t) for t in _list(data["weights"])],
            mapping=_names(data.get("weight_name_mapping"), "weight_name_mapping"),
            nodes=[read_node(n, version) for n in _list(data["nodes"])],
            constants={k: _constant(k, v) for k, v in (data.get("constants") or {}).items()},
            ties=_names(data.get("ties"), "ties"),
            mutations=[
                (_text(m["target"], "a target"), _text(m["kind"], "a kind"), _meta(m["value"]))
                for m in _list(data.get("mutations") or [])
            ],
            output_names=[
                None if n is None else _text(n, "an output name") for n in _list(data.get("output_names") or [])
            ],
        )
    for what, names in (
        ("nodes", [n.name for n in model.nodes]),
        ("inputs", [t.name for t in model.inputs]),
        ("weights", [t.name for t in model.weights]),
    ):
        if len(set(names)) != len(names):
            twice = next(n for i, n in enumerate(names) if n in names[:i])
            raise IRError(f"[compiler] malformed IR: two {what} are called '{twice}'")
    return model


@contextlib.contextmanager
def malformed(where: str) -> Iterator[None]:
    """Turns any error inside, where JSON is read, into an IRError that says where."""
    try:
        yield
    except _MISREAD as error:
        raise _refusal(where, error) from None


_MISREAD = (
    RecursionError, KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError, zlib.error, IRError,
)  # fmt: skip


def _refusal(where: str, error: Exception) -> IRError:
    if isinstance(error, IRError):  # it says where
        return error
    if isinstance(error, RecursionError):
        return IRError(f"[compiler] malformed IR: {where}: lists or dicts are nested too deeply")
    what = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
    return IRError(f"[compiler] malformed IR: {where}: {what}; expected the format of docs/ir-format.md")


def _list(data: Any) -> Sequence[Any]:
    if not isinstance(data, list | tuple):
        raise TypeError(f"expected a list, got {data!r:.60}")
    return data


def _text(data: Any, what: str) -> str:
    if not isinstance(data, str):
        raise TypeError(f"{what} is {data!r:.60}, expected a string")
    return data


def _names(data: Any, what: str) -> dict[str, str]:
    return {_text(k, f"a key of {what}"): _text(v, f"'{k}' of {what}") for k, v in (data or {}).items()}


def _meta(data: Mapping[str, Any]) -> Meta:
    name = _text(data["name"], "the name of a tensor")
    try:  # as malformed does, which takes longer than reading a tensor
        return _read_meta(name, data)
    except _MISREAD as error:
        raise _refusal(f"tensor '{name}'", error) from None


def _read_meta(name: str, data: Mapping[str, Any]) -> Meta:
    shape = tuple(_list(data["shape"]))
    if shape and not (_INTEGERS.issuperset(map(type, shape)) and min(shape) >= 0 and max(shape) < 2**40):
        raise IRError(f"[compiler] tensor '{name}' has the shape {list(shape)}; expected static extents")
    producer, index = data.get("producer_node"), data.get("producer_output_idx")
    if producer is not None:
        _text(producer, "its producer")
    if index is not None and not isinstance(index, int):
        raise TypeError(f"it is the result {index!r} of its producer")
    dtype = data["dtype"]  # text, or a torch dtype of an IR in memory
    if isinstance(dtype, list | dict | int | float) or dtype is None:
        raise TypeError(f"its dtype is {dtype!r:.60}")
    return Meta(name, shape, str(dtype).removeprefix("torch."), producer, index or 0)


def read_node(data: Mapping[str, Any], version: int = 1) -> Node:
    with malformed("a node"):
        name = _text(data["name"], "the name of a node")
    with malformed(f"node '{name}'"):
        # Since version 2, a node without this field has all of its optional tensors, or they cannot be confused.
        absent = data.get("absent_inputs", [] if version >= 2 else None)
        return Node(
            name=name,
            op_type=_text(data["op_type"], "its op_type"),
            inputs=[_meta(t) for t in _list(data["inputs"])],
            outputs=[_meta(t) for t in _list(data["outputs"])],
            attrs={_text(k, "an attribute's name"): _attr(v) for k, v in (data.get("attrs") or {}).items()},
            absent=None if absent is None else frozenset(_text(n, "an absent input") for n in _list(absent)),
            module=str(data.get("module_path") or ""),
            source=str(data.get("source") or ""),
        )


def _attr(value: Any) -> Any:
    """Dtypes, devices and layouts become plain names, from the tagged form and from the older text form."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping) and len(value) == 1:
        ((key, inner),) = value.items()
        if key in ("$dtype", "$device", "$layout", "$memory_format"):
            return str(inner).removeprefix("torch.")
        if key == "$complex":
            return complex(*inner)
        if key == "$tensor":
            return _constant("attribute", inner)
    if isinstance(value, list | tuple):
        return [_attr(v) for v in value]
    if isinstance(value, str):
        return value.removeprefix("torch.")
    if value is None or isinstance(value, bool | int | float | complex | Mapping):
        return value
    text = str(value)  # a torch object of an IR in memory, whose text is the older form
    return text.removeprefix("torch.")


def _constant(name: str, data: Any) -> np.ndarray:
    with malformed(f"constant '{name}'"):
        return _decoded(name, data) if isinstance(data, Mapping) else _from_tensor(name, data)


def _decoded(name: str, data: Mapping[str, Any]) -> np.ndarray:
    dtype = numpy_dtype(str(data["dtype"]).removeprefix("torch."))
    encoding = data.get("encoding")
    if encoding is None:
        array = np.array(data["data"]).astype(dtype)
        return array.reshape(data["shape"]) if "shape" in data else array
    if encoding not in ("base64", "zlib+base64"):
        raise IRError(f"[compiler] constant '{name}' has the encoding '{encoding}'; expected base64 or zlib+base64")
    shape = tuple(data["shape"])
    size = math.prod(shape) * dtype.itemsize
    raw = base64.b64decode(data["data"], validate=True)
    if encoding == "zlib+base64":
        unpack = zlib.decompressobj()
        raw = unpack.decompress(raw, size + 1)
    if len(raw) != size:
        raise IRError(f"[compiler] constant '{name}' has {len(raw)} bytes; its shape {list(shape)} needs {size}")
    return np.frombuffer(raw, dtype).reshape(shape)


def _from_tensor(name: str, data: Any) -> np.ndarray:
    """A tensor of an IR in memory, or an array."""
    if isinstance(data, np.ndarray):
        return data
    raise IRError(f"[compiler] constant '{name}' is a {type(data).__name__}; expected its JSON form or an array")
