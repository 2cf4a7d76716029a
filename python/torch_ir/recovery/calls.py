"""With what arguments a module was made, as far as it and the code around it tell.

An argument is *known* where the constructor stores it unaltered, under whatever name, or where the one call in the
source of the module around it gives it. It is *guessed* where only an attribute of the same name or a default is left.
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
    """The call as far as the module alone tells; None where an argument is not stored."""
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
    """The call with what else the source tells, and guesses for the rest; None where there is not even a guess."""
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
            call.known[name] = parameter.default  # the call is in view, and does not give it
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
    """What layers that are named after the argument (``drop_path1`` after ``drop_path``) keep, else the default."""
    for child_name, child in module.named_children():
        own = parameters_of(type(child))
        if child_name.startswith(name) and own:
            value = vars(child).get(own[0].name, UnknownError)
            if is_plain(value):
                return value
    return default


def _is_placement(parameter: inspect.Parameter) -> bool:
    return parameter.name in PLACEMENT and parameter.default is not parameter.empty
