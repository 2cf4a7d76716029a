"""Computes the values of non-persistent buffers of a model on meta, which no checkpoint contains.

A constructor computes a buffer such as RoPE's ``inv_freq``, so it is run again. These are tried in order:

1. The outermost module that stores all its arguments unmodified, so that what it does to buffers of inner modules is
   repeated too.
2. ``reset_parameters()`` of the module itself, on a copy, if that is the last thing that its constructor did.
3. The module, or one around it, with arguments from its caller's source and guesses for the rest. A guess counts only
   if the rebuilt module equals the original in everything that can be compared, and if no other argument also gives an
   equal module, but with another value of the buffer.

In each case, the value must not depend on randomness or uninitialised memory, and the buffer must not have been written
since. No code of the modules around the rebuilt one may assign the buffer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .calls import likely_call, stored_call
from .guesses import certain_pair
from .rebuilding import SEEDS, Pair, agreed_value, alike, construct, initialise, is_plain
from .source import called_on_others, ends_with_reset, names_set_on_others, setters_of

__all__ = ["recover_buffers"]


def recover_buffers(model: nn.Module, names: list[str]) -> dict[str, Tensor]:
    """The values that could be computed, by buffer name. Others are left out."""
    by_owner: dict[str, list[str]] = {}
    for name in names:
        owner, _, attr = name.rpartition(".")
        by_owner.setdefault(owner, []).append(attr)
    buffers: dict[str, Tensor] = {}
    finder = _Finder(model)
    for owner, attrs in by_owner.items():
        values = finder.values(owner, attrs)
        buffers |= {f"{owner}.{attr}" if owner else attr: value for attr, value in values.items()}
    return buffers


class _Finder:
    """Computes the buffers of one model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.stored: dict[str, Pair | None] = {}

    def values(self, owner: str, attrs: list[str]) -> dict[str, Tensor]:
        try:
            module = self.model.get_submodule(owner)
        except AttributeError:
            return {}
        values = {attr: self._value(owner, attr, getattr(module, attr, None)) for attr in attrs}
        return {attr: value for attr, value in values.items() if value is not None}

    def _value(self, owner: str, attr: str, want: object) -> Tensor | None:
        for find in (self._stored_value, self._initialised_value, self._likely_value):
            value = find(owner, attr, want)
            if value is not None:
                return value
        return None

    def _stored_value(self, owner: str, attr: str, want: object) -> Tensor | None:
        """Rebuild the outermost module whose arguments are known."""
        for path, inside in _around(owner):
            if path not in self.stored:
                self.stored[path] = self._rebuild_stored(path)
            pair = self.stored[path]
            if pair is not None:
                value = agreed_value(want, _inside(pair, inside), attr)
                return value if self._is_left_alone(path, owner, {attr}) else None
        return None

    def _rebuild_stored(self, path: str) -> Pair | None:
        module = self.model.get_submodule(path)
        call = stored_call(module)
        if call is None:
            return None
        built = []
        for seed in SEEDS:
            new = construct(type(module), call.known, seed)
            if new is None or not alike(module, new):
                return None
            built.append(new)
        return built[0], built[1]

    def _initialised_value(self, owner: str, attr: str, want: object) -> Tensor | None:
        """Run ``reset_parameters`` of the owner again."""
        module = self.model.get_submodule(owner)
        if isinstance(want, Tensor) and want.is_floating_point() and want.dtype != torch.float32:
            return None  # a cast creates a new tensor, whose count of writes starts at 0
        plain = {k for k, v in vars(module).items() if not k.startswith("_") and k != "training" and is_plain(v)}
        if not ends_with_reset(type(module)) or not self._is_left_alone(owner, owner, {attr} | plain):
            return None
        first, second = (initialise(module, seed) for seed in SEEDS)
        return None if first is None or second is None else agreed_value(want, (first, second), attr, same_writes=True)

    def _likely_value(self, owner: str, attr: str, want: object) -> Tensor | None:
        """Rebuild the owner, or a module around it, with arguments from the source or guesses."""
        for path, inside in reversed(_around(owner)):
            call = likely_call(self.model, path)
            pair = None if call is None else certain_pair(self.model.get_submodule(path), call, inside, attr)
            value = None if pair is None else agreed_value(want, pair, attr)
            if value is not None and self._is_left_alone(path, owner, {attr}):
                return value
        return None

    def _is_left_alone(self, path: str, owner: str, names: set[str]) -> bool:
        """Whether no code of the modules around ``path`` may assign the owner's attribute, directly or through a method
        of the owner."""
        owning = type(self.model.get_submodule(owner))
        for outer, _ in _around(path)[:-1]:
            around = type(self.model.get_submodule(outer))
            assigned = names_set_on_others(around)  # type: ignore[arg-type]
            if assigned is None or assigned & names:
                return False
            called = called_on_others(around)  # type: ignore[arg-type]
            if any(called & setters_of(owning, name) for name in names):  # type: ignore[arg-type]
                return False
        return True


def _around(owner: str) -> list[tuple[str, str]]:
    """The modules that contain the owner, and then the owner: their paths, and the owner's path inside each."""
    parts = owner.split(".") if owner else []
    return [(".".join(parts[:depth]), ".".join(parts[depth:])) for depth in range(len(parts) + 1)]


def _inside(pair: Pair, path: str) -> Pair:
    return pair[0].get_submodule(path), pair[1].get_submodule(path)
