"""Tests whether guessed arguments of a constructor can be relied on.

Each guessed argument, and each pair of them, is replaced by other values. If the module then differs, the other value
is wrong. If the buffer stays the same, the argument does not matter. If the module is the same but the buffer differs,
either value could be right, so the guess is dropped.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from .calls import ConstructorCall
from .rebuilding import SEEDS, Pair, alike, construct, is_plain
from .source import text_compared

_BUILDS = 200
_MODULES = 64
"""Limits for one buffer. A guess that needs more builds counts as uncertain."""
_IN_PLACE_OF_NONE = (True, 1, 2, 4, 0.5, 2.0, (2, 2), "none")


def certain_pair(module: nn.Module, call: ConstructorCall, inside: str, attr: str) -> Pair | None:
    """Two builds of the owner at ``inside`` of the module, or None if the value of ``attr`` is uncertain."""
    if call.guessed and sum(1 for _ in module.modules()) > _MODULES:
        return None
    arguments = {**call.known, **call.guessed}
    first, second = (construct(type(module), arguments, seed) for seed in SEEDS)
    if first is None or second is None or not (alike(module, first, True) and alike(module, second, True)):
        return None
    owners = first.get_submodule(inside), second.get_submodule(inside)
    value = getattr(owners[0], attr, None)
    if not isinstance(value, torch.Tensor) or not all(_can_be_varied(v) for v in call.guessed.values()):
        return None
    return owners if _Trials(module, arguments, inside, attr, value).pass_for(call.guessed) else None


class _Trials:
    """Builds modules with other values for guessed arguments."""

    def __init__(
        self, module: nn.Module, arguments: dict[str, Any], inside: str, attr: str, value: torch.Tensor
    ) -> None:
        self.module, self.arguments = module, arguments
        self.inside, self.attr, self.value = inside, attr, value
        self.left = _BUILDS
        self.contradicted = False

    def pass_for(self, guessed: dict[str, Any]) -> bool:
        variants = {name: list(_variants(value, type(self.module))) for name, value in guessed.items()}
        # Only arguments whose other values change the module; the rest do not matter.
        seen = []
        for name, values in variants.items():
            shows = [not self.is_alike({name: value}) for value in values]
            if any(shows):
                seen.append(name)
        for a, b in itertools.combinations(seen, 2):
            for x, y in itertools.product(variants[a][:2], variants[b][:2]):
                self.is_alike({a: x, b: y})
        return not self.contradicted and self.left >= 0

    def is_alike(self, other: dict[str, Any]) -> bool:
        self.left -= 1
        if self.left < 0 or self.contradicted:
            return False
        cls = type(self.module)
        new = construct(cls, {**self.arguments, **other}, SEEDS[0])
        if new is None or not alike(self.module, new, True):
            return False
        self.contradicted = not _same(self.value, getattr(new.get_submodule(self.inside), self.attr, None))
        return True


def _same(a: torch.Tensor, b: object) -> bool:
    return isinstance(b, torch.Tensor) and a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def _can_be_varied(value: Any) -> bool:
    # Another class of a layer is visible in the types of modules; another function is not visible.
    return is_plain(value) or (isinstance(value, type) and issubclass(value, nn.Module))


def _variants(value: Any, cls: type) -> Iterator[Any]:
    """Other values of the same kind, the most likely first."""
    return (other for other in _changed(value, cls) if type(other) is not type(value) or other != value)


def _changed(value: Any, cls: type) -> Iterator[Any]:
    if value is None:
        yield from _IN_PLACE_OF_NONE
        yield from text_compared(cls)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from dict.fromkeys((value + 1, value - 1, 2 * value, value // 2, 0, 1, -1))
    elif isinstance(value, float):
        yield from (value + 1.0, value / 2, 2 * value, -value, 0.0)
    elif isinstance(value, str):
        yield from (*text_compared(cls), "none")
    elif isinstance(value, (list, tuple)):
        for i, element in enumerate(value[:4]):
            for other in itertools.islice(_variants(element, cls), 3):
                yield type(value)([*value[:i], other, *value[i + 1 :]])
        yield type(value)([*value, *value[-1:]])
    elif isinstance(value, dict):
        for key, element in value.items():
            for other in itertools.islice(_variants(element, cls), 3):
                yield {**value, key: other}
        yield {}
