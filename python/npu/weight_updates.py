"""New weights for a compiled model, checked as a whole before any of them is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from npu_base.arguments import is_tensor, tensor_dtype
from npu_base.errors import InvalidTypeError, InvalidValueError, format_error
from npu_base.tensors import plain_tensors
from npu_runtime import Weights, load_weights
from npu_runtime.host import as_numpy, decode_constants

__all__ = ["ModelWeights", "checked_weights", "new_weights"]

_NAMED = 4
"""Names of one kind in an error; the rest is counted."""


@dataclass(frozen=True)
class ModelWeights:
    """What the weights of a model are called: shape and dtype by name, names tied to others, and those whose
    values were fixed at compilation, such as buffers that no checkpoint has."""

    specs: dict[str, tuple[tuple[int, ...], str]]
    ties: dict[str, str]
    constants: Callable[[], Mapping[str, Any]]
    constant_names: frozenset[str]

    @staticmethod
    def of(ir: Any) -> ModelWeights:
        """Of an IR or its dict."""
        if isinstance(ir, Mapping):
            specs = {w["name"]: (tuple(w["shape"]), w["dtype"]) for w in ir["weights"]}
            names = frozenset(ir.get("constants") or ())
            return ModelWeights(specs, dict(ir.get("ties") or {}), lambda: decode_constants(ir), names)
        specs = {w.name: (tuple(w.shape), w.dtype) for w in ir.weights}
        return ModelWeights(specs, dict(ir.ties), lambda: ir.constants, frozenset(ir.constants))


def new_weights(source: Any) -> Mapping[str, Any]:
    """Tensors by name from a state dict, a module, or a file that ``npu.load_weights`` reads."""
    if isinstance(source, Weights):
        return dict(source.items())
    if isinstance(source, Mapping):
        return plain_tensors(source)
    if isinstance(source, str | os.PathLike):
        return dict(load_weights(source).items())
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.nn.Module):
        return plain_tensors({**dict(source.named_buffers()), **source.state_dict()})
    what, expected = "weights cannot be updated from this", "a state dict, a module, or the path of a file of weights"
    raise InvalidTypeError(format_error("weights", what, got=type(source).__name__, expected=expected))


def checked_weights(given: Mapping[str, Any], read: Iterable[str], model: ModelWeights) -> dict[str, Any]:
    """The tensors that runs read, by the program's names, if all of ``given`` is right. One error says what is not."""
    known = {**model.specs, **{tie: model.specs[name] for tie, name in model.ties.items() if name in model.specs}}
    given = _renamed(given, known)
    chosen = {name: tensor for name, tensor in given.items() if name in known}
    for tie, name in model.ties.items():
        if tie in given:
            chosen.setdefault(name, given[tie])
    missing = [name for name in sorted(read) if name not in chosen]
    misfits = [
        misfit for name, tensor in given.items() if name in known and (misfit := _misfit(name, tensor, *known[name]))
    ]
    problems = [
        _listed("no ", map(repr, missing)),
        _listed("unknown ", (repr(name) for name in given if name not in known)),
        _listed("", misfits),
    ]
    if not any(problems):
        tied = [(tie, name) for tie, name in model.ties.items() if tie in given and name in given]
        differ = (f"'{tie}' and '{name}'" for tie, name in tied if not _same(given[tie], given[name]))
        problems.append(_listed("tied weights with different values ", differ))
        fixed = [name for name in given if name in model.constant_names]
        constants = model.constants() if fixed else {}
        changed = (repr(name) for name in fixed if not _same(given[name], constants[name]))
        problems.append(_listed("other values of constants, which need npu.compile, ", changed))
    if any(problems):
        raise InvalidValueError(
            format_error(
                "weights",
                "the new weights do not fit the model, so nothing was changed",
                got="; ".join(filter(None, problems)),
                expected="the names, shapes and dtypes of the module that was compiled",
                action="its state_dict()",
            )
        )
    return {name: chosen[name] for name in read}


def _renamed(given: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the prefix ``model.`` added or removed if that makes all names match."""
    if all(name in known for name in given):
        return given
    for change in (lambda n: f"model.{n}", lambda n: str(n).removeprefix("model.")):
        renamed = {change(name): tensor for name, tensor in given.items()}
        if len(renamed) == len(given) and all(name in known for name in renamed):
            return renamed
    return given


def _misfit(name: str, tensor: Any, shape: tuple[int, ...], dtype: str) -> str | None:
    expected = f"{dtype}{list(shape)}"
    if not is_tensor(tensor):
        return f"'{name}' as {type(tensor).__name__}, not a tensor"
    got = f"{tensor_dtype(tensor)}{list(tensor.shape)}"
    if got != expected:
        return f"'{name}' as {got}, not {expected}"
    return f"'{name}' on meta" if getattr(tensor, "is_meta", False) else None


def _listed(what: str, items: Iterable[str]) -> str:
    items = list(items)
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return f"{what}{', '.join(items[:_NAMED])}{more}" if items else ""


def _same(a: Any, b: Any) -> bool:
    """NaN is equal to itself."""
    if a is b:
        return True
    a, b = as_numpy(a), as_numpy(b)
    same_memory = a.ctypes.data == b.ctypes.data and a.shape == b.shape
    return same_memory or (a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all()))
