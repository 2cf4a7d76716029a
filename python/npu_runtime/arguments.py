"""Errors for calls into the compiled core that match no signature: which argument is wrong, and what is expected."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from npu_runtime import _core
from npu_runtime.errors import InvalidTypeError, format_error

__all__ = ["wrong_arguments"]

_PLAIN: dict[str, tuple[type, str]] = {
    "bool": (bool, "True or False"),
    "bytes": (bytes, "bytes"),
    "int": (int, "an integer"),
    "str": (str, "a string"),
}
_WORDS = {
    "collections.abc.Sequence[int]": "a list of integers",
    "npu_base.argument_types.AnyDType": "a dtype",
    "npu_base.argument_types.AnyTensor": "a tensor",
    "npu_base.argument_types.RunInputs": "tensors by name",
    "Program": "a program or the path of its file",
}


def wrong_arguments(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> InvalidTypeError:
    """The error for a call that nanobind refused. ``args`` start with ``self`` if the function has one."""
    owner, _, name = function.__qualname__.rpartition(".")
    called = owner if name == "__init__" else function.__qualname__
    area = owner.removeprefix("NPU").lower() or "core"
    annotations, signature = _signature(function)
    if "self" in signature.parameters:
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
        args = args[1:]
    usage = f"{called}{signature}"
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        missing = next((p for p in signature.parameters if f"argument: '{p}'" in str(error)), "")
        action = _advice(None, annotations.get(missing, ""))
        return InvalidTypeError(format_error(area, f"{called}: {error}", expected=usage, action=action))
    for parameter, value in given.items():
        expected = _expected(value, annotations[parameter])
        if expected is not None:
            what, action = f"{called}: '{parameter}' has the wrong type", _advice(value, annotations[parameter])
            return InvalidTypeError(format_error(area, what, got=_short_repr(value), expected=expected, action=action))
    return InvalidTypeError(_beyond_range(area, called, given, usage))


def _signature(function: Any) -> tuple[dict[str, str], inspect.Signature]:
    """Annotations by parameter, and the signature without them. In nanobind's text, `\\0` is the first default."""
    text, _, *defaults = function.__nb_signature__[0]
    values = (defaults[0] if defaults else None) or ()
    text = re.sub(r"\\(\d+)", lambda match: repr(values[int(match[1])]), text).replace("npu_runtime._core.", "")
    scope: dict[str, Any] = {}
    exec(f"from __future__ import annotations\n{text}: ...", scope)
    signature = inspect.signature(scope[function.__name__])
    parameters = signature.parameters.values()
    plain = signature.replace(
        parameters=[p.replace(annotation=p.empty) for p in parameters], return_annotation=signature.empty
    )
    return {p.name: "" if p.annotation is p.empty else p.annotation for p in parameters}, plain


def _expected(value: Any, annotation: str) -> str | None:
    """What ``annotation`` expects, in words, or None if ``value`` matches it."""
    choices = annotation.split(" | ")
    fits = "None" in choices or choices == ["typing.Any"] if value is None else any(_is_one(value, c) for c in choices)
    return None if fits else _words(choices[0])


def _is_one(value: Any, choice: str) -> bool:
    if choice in _PLAIN:
        return isinstance(value, _PLAIN[choice][0])
    if choice == "collections.abc.Sequence[int]":
        return isinstance(value, Sequence) and all(isinstance(extent, int) for extent in value)
    own = getattr(_core, choice, None)
    return not isinstance(own, type) or isinstance(value, own)  # other annotations cannot be checked here


def _words(choice: str) -> str:
    if choice in _PLAIN:
        return _PLAIN[choice][1]
    return _WORDS.get(choice, f"a {choice}")


def _beyond_range(area: str, called: str, given: Mapping[str, Any], usage: str) -> str:
    """All types are right, so nanobind refused an integer that does not fit into C++'s."""
    numbers = [(p, v) for p, value in given.items() for v in (value if isinstance(value, list | tuple) else [value])]
    for parameter, value in numbers:
        if isinstance(value, int) and not 0 <= value < 2**31:
            return format_error(area, f"{called}: '{parameter}' is out of range", got=value, expected=usage)
    kinds = ", ".join(type(value).__name__ for value in given.values())
    return format_error(area, f"{called}: the arguments do not match the signature", got=kinds, expected=usage)


def _advice(value: Any, annotation: str) -> str | None:
    if annotation != "Device":
        return None
    return f"Device({value!r})" if isinstance(value, str) else "Device()"


def _short_repr(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else type(value).__name__
