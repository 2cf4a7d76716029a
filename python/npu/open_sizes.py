"""Compiled models whose sizes are open: a program for each size that was asked for, with the same weights and state."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from npu_base.arguments import Spec
from npu_base.collector import collector_paused
from npu_base.errors import InvalidTypeError, InvalidValueError, format_error
from npu_base.size_rules import SizeRules
from npu_base.sizes import Size, as_int
from npu_runtime import Executor, Weights
from npu_runtime.shared_weights import SharedWeights

from npu.kept import Kept
from npu.runners import ProgramRunner, Runner
from npu.saving.signature import Signature
from npu.saving.sizes import SavedSize
from npu.saving.structure import Arguments

__all__ = ["MOST_SIZES", "OpenArguments", "OpenRunner", "check_state"]

MOST_SIZES = 16
"""How many sizes a compiled model keeps, unless the caller says."""


class OpenArguments(Arguments):
    """Takes any size where the signature has an expression; the runner checks those together."""

    def check(self, tensor: Any, spec: Spec) -> None:
        got = tuple(tensor.shape)
        shape = tuple(spec.shape)
        if len(got) == len(shape):
            shape = tuple(n if isinstance(want, Size) else want for n, want in zip(got, shape, strict=True))
        super().check(tensor, replace(spec, shape=shape))  # type: ignore[type-var]


def check_state(ir: Any) -> None:
    """Refuse a buffer that the model writes with a shape that depends on an open size: no other size could read it."""
    shapes = {t.name: tuple(t.shape) for t in ir.weights}
    for m in ir.mutations:
        known = shapes.get(m.target)
        if m.kind == "buffer" and known is not None and tuple(m.value.shape) != known:
            raise InvalidValueError(
                format_error(
                    "npu",
                    f"the model writes the buffer '{m.target}' in a shape that depends on open sizes",
                    got=str(list(m.value.shape)),
                    expected=f"{list(known)}, as the buffer has, so that it keeps its value from size to size",
                    action="a fixed size, or a buffer of the largest size of which the model writes a part",
                )
            )


SizedRunner = tuple[Runner, Callable[[], SavedSize]]
"""A runner, and what gives that which a saved file has for its size."""
Make = Callable[[dict[str, int], SharedWeights], SizedRunner]


class _Sized:
    def __init__(self, sizes: dict[str, int], runner: SizedRunner, weights: SharedWeights) -> None:
        self.sizes, self.weights = sizes, weights
        self.runner, self.saved = runner

    def use(self, weights: SharedWeights) -> None:
        if self.weights is not weights:
            if isinstance(self.runner, ProgramRunner):
                self.runner.use(weights.on_device)
            else:
                self.runner.update(weights)
            self.weights = weights

    def __str__(self) -> str:
        return str(SavedSize(self.sizes))


class OpenRunner(Runner):
    """Runs each call with the runner of its size, which is made at the first such call.

    ``make`` gives the runner of some sizes. All runners have the same weights. State is handed from the size
    of one call to that of the next. ``in_file`` are sizes that it need not compile; a saved file keeps all of them.
    """

    def __init__(
        self,
        rules: SizeRules,
        make: Make,
        weights: SharedWeights,
        first: Mapping[str, int],
        most: int,
        in_file: Sequence[SavedSize] = (),
    ) -> None:
        self.rules, self._make, self._weights = rules, make, weights
        self._kept: Kept[_Sized] = Kept(most)
        self._in_file = list(in_file)
        self._state_lock, self._update_lock = threading.Lock(), threading.Lock()
        self._last = self._of_sizes(dict(first))
        runner = self._last.runner
        self.device, self.has_state = runner.device, runner.has_state

    def arguments(self, signature: Signature) -> Arguments:
        return OpenArguments(signature)

    def try_tensors(self, tensors: tuple[Any, ...]) -> Sequence[Any] | None:
        if self.has_state:
            sized = self._known(tensors)
            return None if sized is None else self._with_state(sized, lambda runner: runner.try_tensors(tensors))
        last = self._last
        results = last.runner.try_tensors(tensors)  # refuses other shapes before anything has run
        if results is not None:
            return results
        sized = self._known(tensors)
        if sized is None or sized is last:
            return None
        results = sized.runner.try_tensors(tensors)
        if results is not None:
            self._last = sized
        return results

    def run(self, tensors: Sequence[Any], as_torch: bool) -> Sequence[Any]:
        sized = self._sized(tensors)
        if self.has_state:
            return self._with_state(sized, lambda runner: runner.run(tensors, as_torch))
        self._last = sized
        return sized.runner.run(tensors, as_torch)

    def _known(self, tensors: tuple[Any, ...]) -> _Sized | None:
        try:
            return self._kept.get(tuple([tuple(t.shape) for t in tensors]))
        except (AttributeError, TypeError):
            return None

    def _sized(self, tensors: Sequence[Any]) -> _Sized:
        shapes = tuple(tuple(t.shape) for t in tensors)
        return self._kept.get(shapes) or self._of_sizes(self.rules.sizes_of(shapes))

    def _of_sizes(self, sizes: dict[str, int]) -> _Sized:
        self.rules.check(sizes)

        def make() -> _Sized:
            weights = self._weights
            with collector_paused():
                return _Sized(sizes, self._make(sizes, weights), weights)

        sized = self._kept.get_or_make(self.rules.shapes(sizes), make)
        if sized.weights is not self._weights:
            with self._update_lock:  # an update came while it was made
                sized.use(self._weights)
        return sized

    def _with_state(self, sized: _Sized, run: Callable[[Runner], Any]) -> Any:
        with self._state_lock:
            last = self._last
            if sized is not last:
                sized.runner.set_state(last.runner.state())
            self._last = sized
            return run(sized.runner)

    def warm_up(self, wanted: Iterable[Any]) -> None:
        for sizes in wanted if isinstance(wanted, Iterable) else [wanted]:
            if not isinstance(sizes, Mapping):
                names = ", ".join(f"'{s.name}': 4" for s in self.rules.sizes)
                got = f"{sizes!r:.60}"
                raise InvalidTypeError(
                    format_error("npu", "warm_up takes a list of sizes by name", got=got, expected=f"[{{{names}}}]")
                )
            self._of_sizes({name: as_int(n) for name, n in sizes.items()})

    @property
    def sizes(self) -> list[dict[str, int]]:
        return [dict(size.sizes) for size in self._unplanned()] + [dict(sized.sizes) for sized in self._kept.values()]

    @property
    def program(self) -> Any:
        return self._last.runner.program

    @property
    def executor(self) -> Executor:
        return self._last.runner.executor

    @property
    def weights(self) -> Weights:
        return self._last.runner.weights

    @property
    def plan(self) -> Any:
        return self._last.runner.plan

    def profile(self, tensors: Sequence[Any], runs: int = 1) -> Any:
        return self._sized(tensors).runner.profile(tensors, runs)

    def reset(self) -> None:
        with self._state_lock:
            for sized in [*self._kept.values(), self._last]:
                sized.runner.reset()

    def weights_read(self) -> set[str]:
        return set(self._weights)

    def update(self, weights: Mapping[str, Any]) -> None:
        loaded = SharedWeights.of(weights)
        with self._update_lock:
            self._weights = loaded
            for sized in {id(s): s for s in [*self._kept.values(), self._last]}.values():
                sized.use(loaded)

    def stored(self) -> SharedWeights:
        return self._weights

    def steps(self) -> str:
        return f"{self._last.runner.steps()} for {self._last}"

    def on_host(self) -> str:
        return self._last.runner.on_host()

    def saved_sizes(self) -> list[SavedSize]:
        return [*self._unplanned(), *(sized.saved() for sized in self._kept.values() or [self._last])]

    def _unplanned(self) -> list[SavedSize]:
        """Those in the file that no runner is kept for."""
        kept = [sized.sizes for sized in self._kept.values() or [self._last]]
        return [size for size in self._in_file if dict(size.sizes) not in kept]

    def __repr__(self) -> str:
        kept = ", ".join(map(str, [*self._unplanned(), *self._kept.values()]))
        ranges = ", ".join(map(str, self.rules.sizes))
        return f"{self._last.runner!r}, sizes {ranges}; compiled for {kept}"
