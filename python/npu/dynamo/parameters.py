"""Parameters of a graph: prepared once, and again when they change."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["Parameters"]

Prepared = TypeVar("Prepared")
_versions = attrgetter("_version")


class _Set(Generic[Prepared]):
    """The parameters of one call, as they were when they were prepared."""

    def __init__(
        self, key: tuple[int, ...], tensors: Sequence[Tensor], prepared: Prepared, forget: Callable[[Any], None]
    ) -> None:
        self.key, self.prepared = key, prepared
        self.references = [weakref.ref(tensor, forget) for tensor in tensors]
        self.versions: list[int] = []
        self.addresses: list[int] = []

    def is_current(self, tensors: Sequence[Tensor]) -> bool:
        return self.versions == list(map(_versions, tensors)) and self.addresses == list(map(Tensor.data_ptr, tensors))


class Parameters(Generic[Prepared]):
    """What was prepared from the parameters among the arguments of a call.

    One graph may be called with the parameters of several modules of one class, so there is a set for each. PyTorch
    counts the writes to a tensor; a tensor that was written, or that has other memory, is prepared again.
    """

    def __init__(
        self,
        positions: list[int],
        names: list[str],
        prepare: Callable[[dict[str, Tensor]], Prepared],
        update: Callable[[Prepared, dict[str, Tensor], dict[str, Tensor]], None],
    ) -> None:
        self._names = names
        self._select = _selection(positions)
        self._prepare, self._update = prepare, update
        self._sets: dict[tuple[int, ...], _Set[Prepared]] = {}
        self._last: _Set[Prepared] | None = None
        self._lock = threading.Lock()
        self._warned = False

    def of(self, args: Sequence[Any]) -> Prepared:
        tensors = self._select(args)
        key = tuple(map(id, tensors))
        known = self._last
        if known is None or known.key != key:
            known = self._last = self._sets.get(key)
        try:
            if known is not None and known.is_current(tensors):
                return known.prepared
            with self._lock:
                return self._make(key, tensors)
        except RuntimeError:
            if not any(map(Tensor.is_inference, tensors)):
                raise
        return self._uncounted(tensors)

    def _make(self, key: tuple[int, ...], tensors: Sequence[Tensor]) -> Prepared:
        # Taken before the tensors are read, so that a write of another thread meanwhile is noticed at the next call.
        versions, addresses = list(map(_versions, tensors)), list(map(Tensor.data_ptr, tensors))
        named = dict(zip(self._names, map(_detached, tensors), strict=True))
        known = self._sets.get(key)
        if known is None:
            known = self._sets[key] = _Set(key, tensors, self._prepare(named), self._forgetting(key))
        else:
            before, now = zip(known.versions, known.addresses, strict=True), zip(versions, addresses, strict=True)
            changed = [name for name, a, b in zip(self._names, before, now, strict=True) if a != b]
            if changed:
                self._update(known.prepared, {name: named[name] for name in changed}, named)
        known.versions, known.addresses = versions, addresses
        return known.prepared

    def _forgetting(self, key: tuple[int, ...]) -> Callable[[Any], None]:
        """What drops a set when one of its tensors is gone."""
        owner = weakref.ref(self)

        def forget(_: Any) -> None:
            parameters = owner()
            if parameters is not None:
                parameters._last = None
                parameters._sets.pop(key, None)

        return forget

    def _uncounted(self, tensors: Sequence[Tensor]) -> Prepared:
        """PyTorch does not count the writes to tensors that were made under inference mode."""
        if not self._warned:
            self._warned = True
            warnings.warn(
                "torch.compile(backend='npu'): parameters were created under torch.inference_mode(), so PyTorch does "
                "not tell when they change, and they are prepared at every call; create the model outside of it",
                stacklevel=2,
            )
        return self._prepare(dict(zip(self._names, map(_detached, tensors), strict=True)))


def _selection(positions: list[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    if len(positions) == 1:
        (position,) = positions
        return lambda args: (args[position],)
    return itemgetter(*positions) if positions else lambda args: ()


def _detached(tensor: Tensor) -> Tensor:
    return tensor.detach() if isinstance(tensor, torch.nn.Parameter) or tensor.requires_grad else tensor
