"""Checks the arguments of a DAGExecutor before any work starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from npu_runtime._core import NPUBuffer
from npu_runtime.backend import Backend
from npu_runtime.errors import InvalidValueError, format_error
from npu_runtime.host import check_tensor

__all__ = ["check_arguments", "check_donations", "check_inputs", "donated_names"]


def _refuse(what: str, *, got: object = None, expected: str | None = None, action: str | None = None) -> None:
    raise InvalidValueError(format_error("dag", what, got=got, expected=expected, action=action))


def check_arguments(plan: Any, backend: Any, compile_fn: Any) -> None:
    if not hasattr(plan, "steps") or not isinstance(getattr(plan, "original_ir", None), Mapping):
        _refuse("plan has the wrong type", got=type(plan).__name__, expected="a PartitionPlan, as partition() returns")
    if not isinstance(backend, Backend):
        _refuse("backend has the wrong type", got=type(backend).__name__, expected="a Backend, such as CPUBackend()")
    if compile_fn is not None and not callable(compile_fn):
        _refuse("compile_fn must be callable", got=type(compile_fn).__name__, expected="a function from IR to program")


def check_inputs(ir: Mapping[str, Any], read: set[str], optional: set[str], inputs: Any) -> None:
    """Names, then shapes and dtypes. ``optional`` inputs, and those that nothing reads, may be omitted."""
    known = {t["name"] for t in ir["graph_inputs"]}
    missing, surplus = sorted((known & read) - optional - set(inputs)), sorted(map(str, set(inputs) - known))
    if missing or surplus:
        got = f"missing {missing}, unknown {surplus}"
        _refuse("the names of the inputs do not match", got=got, expected=", ".join(sorted(known)))
    for meta in ir["graph_inputs"]:
        if meta["name"] in inputs:
            check_tensor("input", meta, inputs[meta["name"]])


def donated_names(donate: Any) -> set[str]:
    names = list(donate) if isinstance(donate, Iterable) and not isinstance(donate, str) else [donate, None]
    if not all(isinstance(name, str) for name in names):
        got = f"{donate!r} ({type(donate).__name__})"[:80]
        _refuse("donate must be a set of input names", got=got, expected="a set such as {'cache'}")
    return set(names)


def check_donations(inputs: Mapping[str, Any], donate: Any, returned: Iterable[str]) -> set[str]:
    """The names of the donated inputs, none of which may share memory with another input."""
    names = donated_names(donate)
    for name in sorted(names):
        if not isinstance(inputs.get(name), NPUBuffer):
            got = type(inputs[name]).__name__ if name in inputs else "nothing"
            _refuse(f"only an NPUBuffer can be donated as '{name}'", got=got, action="NPUBuffer.from_numpy")
        if name in returned:
            _refuse(f"input '{name}' cannot be donated, because the model returns it unchanged")
    if names:
        _refuse_shared(inputs, names)
    return names


def _refuse_shared(inputs: Mapping[str, Any], donated: set[str]) -> None:
    spans = sorted((*_span(value), name) for name, value in inputs.items())
    end, owner = 0, ""
    for begin, stop, name in spans:
        if begin < min(end, stop) and (name in donated or owner in donated):
            first, second = (name, owner) if name in donated else (owner, name)
            _refuse(
                f"input '{first}' is donated, but its memory is also that of '{second}'",
                action="passing a copy of one of them",
            )
        if stop > end:
            end, owner = stop, name


def _span(value: Any) -> tuple[int, int]:
    """The addresses of the first byte, and of the byte after the last."""
    if isinstance(value, NPUBuffer):
        return value.native_handle, value.native_handle + value.size_bytes
    if isinstance(value, np.ndarray):
        bounds = getattr(np.lib, "array_utils", np).byte_bounds
        begin, end = bounds(value)
        return int(begin), int(end)
    if hasattr(value, "untyped_storage"):
        storage = value.untyped_storage()
        return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
    return 0, 0
