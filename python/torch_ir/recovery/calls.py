"""Determines the constructor arguments of a module.

An argument is *known* if the constructor stores it unmodified, under any name, or if the only call in the source of the
surrounding module passes it. It is *guessed* if there is only an attribute of the same name, or a default.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .call_sites import call_site
from .rebuilding import is_plain
from .source import parameters_of
from .stored import PLACEMENT, UnknownError, stored_argument


@dataclass
class ConstructorCall:
    known: dict[str, Any] = field(default_factory=dict)
    guessed: dict[str, Any] = field(default_factory=dict)


def stored_call(module: nn.Module) -> ConstructorCall | None:
    """The arguments that the module itself stores, or None if it does not store all of them."""
    call = ConstructorCall()
    for parameter in parameters_of(type(module)):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            return None
        if _is_placement(parameter):
            continue
        try:
            call.known[parameter.name] = stored_argument(module, parameter.name)
        except UnknownError:
            return None
    return call


def likely_call(model: nn.Module, path: str) -> ConstructorCall | None:
    """The arguments from the module and the source, and guesses for the rest. None if an argument has no guess."""
    module = model.get_submodule(path)
    site = call_site(model, path, module)
    call = ConstructorCall()
    for parameter in parameters_of(type(module)):
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            if parameter.kind == parameter.POSITIONAL_ONLY or site is None or name in site:
                return None
            continue
        if _is_placement(parameter):
            continue
        try:
            call.known[name] = stored_argument(module, name)
            continue
        except UnknownError:
            pass
        if site is not None and name not in site and parameter.default is not parameter.empty:
            call.known[name] = parameter.default  # the call was found, and does not pass it
        elif site is not None and site.get(name, UnknownError) is not UnknownError:
            call.known[name] = site[name]
        elif is_plain(vars(module).get(name, UnknownError)):
            call.guessed[name] = vars(module)[name]
        else:
            guess = _shown_by_children(module, name, parameter.default)
            if guess is parameter.empty:
                return None
            call.guessed[name] = guess
    return call


def _shown_by_children(module: nn.Module, name: str, default: Any) -> Any:
    """The value that a layer named after the argument keeps (``drop_path1`` after ``drop_path``), or the default."""
    for child_name, child in module.named_children():
        own = parameters_of(type(child))
        if child_name.startswith(name) and own:
            value = vars(child).get(own[0].name, UnknownError)
            if is_plain(value):
                return value
    return default


def _is_placement(parameter: inspect.Parameter) -> bool:
    return parameter.name in PLACEMENT and parameter.default is not parameter.empty
