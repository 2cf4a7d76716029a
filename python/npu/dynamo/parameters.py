"""Parameters of a graph: prepared once, and again when they change."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Collection, Sequence
from functools import cache
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
        self.contents: list[_Contents] = []
        self._storages: list[Any] = []
        self._gone: list[int] = []

    def keep(
        self, versions: list[int], addresses: list[int], contents: list[_Contents], tensors: Sequence[Tensor]
    ) -> None:
        self.versions, self.addresses, self.contents = versions, addresses, contents
        # The next tensor may get the address of a storage that is gone.
        self._gone = []
        self._storages = [
            weakref.ref(tensor.untyped_storage(), _appending(self._gone, i)) for i, tensor in enumerate(tensors)
        ]

    def is_current(self, tensors: Sequence[Tensor]) -> bool:
        return (
            not self._gone
            and self.versions == list(map(_versions, tensors))
            and self.addresses == list(map(Tensor.data_ptr, tensors))
            and not any(map(_Contents.changed, self.contents))
        )

    def changed(self, versions: list[int], addresses: list[int], watched: Sequence[int]) -> set[int]:
        before, now = zip(self.versions, self.addresses, strict=True), zip(versions, addresses, strict=True)
        counted = {i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a != b}
        return counted | set(self._gone) | {i for i, c in zip(watched, self.contents, strict=True) if c.changed()}


class _Contents:
    """A small tensor whose writes PyTorch does not count, and what it held."""

    def __init__(self, tensor: Tensor) -> None:
        memory = tensor.detach()
        # Bytes in memory are compared in a fraction of a microsecond.
        self._array = memory.view(torch.uint8).numpy() if _is_plain(memory) else None
        self._bytes = b"" if self._array is None else self._array.tobytes()
        self._tensor, self._held = memory, memory.clone() if self._array is None else None

    def changed(self) -> bool:
        if self._array is not None:
            return bool(self._array.tobytes() != self._bytes)
        return self._held is not None and not torch.equal(self._tensor, self._held)


def _appending(to: list[int], number: int) -> Callable[[Any], None]:
    return lambda _: to.append(number)


def _is_plain(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.is_contiguous() and tensor.ndim > 0


@cache
def _count_fused_writes() -> None:
    """Fused optimizers write parameters uncounted; from now on, each of their steps is counted."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    register_optimizer_step_post_hook(_count_step)


def _count_step(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
    for group in optimizer.param_groups:
        written = [p for p in group["params"] if p.grad is not None and not p.is_inference()]
        if group.get("fused") and written:
            torch.autograd.graph.increment_version(written)


class Parameters(Generic[Prepared]):
    """What was prepared from the parameters among the arguments of a call.

    One graph may be called with the parameters of several modules of one class, so there is a set for each. PyTorch
    counts the writes to a tensor; a tensor that was written, or that has other memory, is prepared again. Of the
    tensors ``uncounted``, the contents are compared.
    """

    def __init__(
        self,
        positions: list[int],
        names: list[str],
        prepare: Callable[[dict[str, Tensor]], Prepared],
        update: Callable[[Prepared, dict[str, Tensor], dict[str, Tensor]], None],
        uncounted: Collection[str] = (),
    ) -> None:
        _count_fused_writes()
        self._names = names
        self._watched = [i for i, name in enumerate(names) if name in uncounted]
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
        contents = [_Contents(tensors[i]) for i in self._watched]
        named = dict(zip(self._names, map(_detached, tensors), strict=True))
        known = self._sets.get(key)
        if known is None:
            known = self._sets[key] = _Set(key, tensors, self._prepare(named), self._forgetting(key))
        else:
            changed = [self._names[i] for i in sorted(known.changed(versions, addresses, self._watched))]
            if changed:
                self._update(known.prepared, {name: named[name] for name in changed}, named)
        known.keep(versions, addresses, contents, tensors)
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
