"""The lowerings by operator, and how they are registered."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from npu_base.errors import InvalidTypeError, InvalidValueError

__all__ = ["LOWERINGS", "Lowering", "Parameter", "Scalar", "add", "full_name", "is_ours", "lowering"]

Scalar = int | float


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: str  # tensor, tensors, attr, or either: a tensor unless the node gives it as an attribute
    required: bool
    optional_tensor: bool = False
    default: Any = None
    hint: Any = Any
    """The types that an attribute may have."""


@dataclass(frozen=True)
class Lowering:
    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]


LOWERINGS: dict[str, Lowering] = {}
_KINDS = {"Tensor": "tensor", "Tensor | None": "tensor", "list[Tensor]": "tensors", "list[Tensor | None]": "tensors",
          "Tensor | Scalar": "either", "Tensor | Scalar | None": "either"}  # fmt: skip


def is_ours(function: Callable[..., Any]) -> bool:
    """Whether a lowering or a pass belongs to this package; users register others."""
    return f"{getattr(function, '__module__', '')}.".startswith(f"{__package__}.")


def full_name(function: Callable[..., Any]) -> str:
    """How messages call a function."""
    name = getattr(function, "__name__", None) or type(function).__name__
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if module else name


def lowering(*op_types: str, replace: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function whose parameters, after the builder, are those of the ATen schema by name, with annotations
    that say which are tensors. ``replace`` replaces the operators' existing lowerings."""
    if not op_types or not all(isinstance(op_type, str) for op_type in op_types):
        got = ", ".join(type(op_type).__name__ for op_type in op_types) or "nothing"
        raise InvalidTypeError(
            f"[compiler] lowering(...) needs names of operators; got {got}; expected names such as 'aten.relu.default'"
        )

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function):
            raise InvalidTypeError(
                f"[compiler] lowering({op_types[0]!r}, ...) decorates a function; got {type(function).__name__}; "
                "expected a function of a Builder and the operator's arguments"
            )
        if not is_ours(function):
            for op_type in op_types:
                _check_operator(op_type)
        add(op_types, function, _parameters(function), replace)
        return function

    return register


def add(
    op_types: Iterable[str], function: Callable[..., Any], parameters: Iterable[Parameter], replace: bool = False
) -> None:
    op_types, rule = list(op_types), Lowering(function, tuple(parameters))
    for op_type in op_types:
        known = LOWERINGS.get(op_type)
        if known is not None and not replace and not _is_again(known.function, function):
            raise InvalidValueError(
                f"[compiler] '{op_type}' already has a lowering, {full_name(known.function)}; got another, "
                f"{full_name(function)}; expected one for each operator; try lowering(..., replace=True)"
            )
        if known is None and replace:
            raise InvalidValueError(
                f"[compiler] '{op_type}' has no lowering to replace; expected an operator that has one"
                f"{_suggestion(op_type, LOWERINGS)}; to add a lowering, leave out replace=True"
            )
    LOWERINGS.update(dict.fromkeys(op_types, rule))


def _is_again(known: Callable[..., Any], function: Callable[..., Any]) -> bool:
    """Whether the code that registered ``known`` is run again, after an import that Ctrl-C interrupted or in a cell of
    a notebook. A run makes many functions called ``<lambda>``; in another run, the module has other globals."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if name is None or (getattr(known, "__module__", None), getattr(known, "__qualname__", None)) != (module, name):
        return False
    return "<" not in name or getattr(known, "__globals__", None) is not getattr(function, "__globals__", None)


def _check_operator(op_type: str) -> None:
    """That an IR can contain an operator of this name. Which ATen operators exist is known only while torch is loaded,
    which this package does not import."""
    namespace, *rest = op_type.split(".")
    if len(rest) < 2 or not all((namespace, *rest)):
        raise InvalidValueError(
            f"[compiler] {op_type!r} is not the full name of an operator; expected namespace.operator.overload"
            f"{_suggestion(op_type, LOWERINGS, f'{op_type}.default')}"
        )
    torch = sys.modules.get("torch")
    if namespace != "aten" or op_type in LOWERINGS or torch is None:
        return
    packet = getattr(torch.ops.aten, rest[0], None)
    overloads = packet.overloads() if packet is not None else []
    if ".".join(rest[1:]) not in overloads:
        names = [f"aten.{rest[0]}.{overload}" for overload in overloads]
        raise InvalidValueError(
            f"[compiler] PyTorch has no operator '{op_type}'; expected the op_type of a node"
            f"{_suggestion(op_type, names or LOWERINGS)}"
        )


def _suggestion(name: str, known: Iterable[str], *first: str) -> str:
    names = [*first, *difflib.get_close_matches(name, [*known], n=3)][:3]
    return "; try " + " or ".join(f"'{name}'" for name in dict.fromkeys(names)) if names else ""


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    parameters, hints = [], _hints(function)
    for p in list(inspect.signature(function).parameters.values())[1:]:
        empty = p.default is inspect.Parameter.empty
        default = None if empty else p.default
        optional = str(p.annotation).endswith("None")
        kind = _kind(function, p)
        hint = hints.get(p.name, Any)
        parameters.append(Parameter(p.name, kind, empty and not optional, optional, default, hint))
    return parameters


def _kind(function: Callable[..., Any], p: inspect.Parameter) -> str:
    """What its annotation says that a parameter is. Tensors are annotated in quotes, so that they need no import."""
    text = p.annotation if isinstance(p.annotation, str) else None
    if text is not None and ("tensor" not in text.lower() or text in _KINDS):
        return _KINDS.get(text, "attr")
    names = {getattr(part, "__name__", "") for part in _parts(p.annotation)}
    if text is None and p.annotation is not inspect.Parameter.empty and not names & {"Tensor", "View"}:
        return "attr"
    got = "nothing" if p.annotation is inspect.Parameter.empty else text or f"{p.annotation} without quotes"
    kinds = ", ".join(f'"{kind}"' for kind in _KINDS)
    raise InvalidTypeError(
        f"[compiler] the lowering '{getattr(function, '__name__', function)}' does not say what its parameter "
        f"'{p.name}' is; got {got}; expected one of {kinds} in quotes for tensors, or the type of another argument; "
        "try quotes, or 'from __future__ import annotations' in the first line of the file"
    )


def _parts(annotation: Any) -> list[Any]:
    return [annotation, *(part for arg in get_args(annotation) for part in _parts(arg))]


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, TypeError):  # "Tensor", where nothing of that name was imported; a callable object
        return {}
