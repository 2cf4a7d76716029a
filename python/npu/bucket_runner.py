"""Runs calls padded to buckets: pads the inputs, and cuts the results back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from npu_base.errors import InvalidValueError, format_error
from npu_base.size_rules import SizeRules
from npu_base.sizes import Size, free_names
from npu_runtime.shared_weights import SharedWeights

from npu.buckets import ABOVE, Buckets, Fill, axis_of, is_ordinary
from npu.kept import Kept
from npu.open_sizes import Make, OpenRunner
from npu.runners import uses_torch
from npu.saving.signature import Signature
from npu.saving.sizes import SavedSize

__all__ = ["BucketRunner", "open_runner"]

_SHAPES = 256
"""How many shapes of calls are remembered."""
Cut = tuple[slice, ...] | None


@dataclass(frozen=True)
class _Fit:
    """How calls of some shapes are padded: the shapes of inputs, None for those that stay, and where results end."""

    shapes: tuple[tuple[int, ...] | None, ...]
    cuts: tuple[Cut, ...]

    @property
    def pads(self) -> bool:
        return any(shape is not None for shape in self.shapes)


class BucketRunner(OpenRunner):
    def __init__(
        self, buckets: Buckets, signature: Signature, rules: SizeRules, make: Make, weights: SharedWeights,
        first: Mapping[str, int], most: int, compute_dtype: str | None, in_file: Sequence[SavedSize] = (),
    ) -> None:  # fmt: skip
        self.buckets, self._compute_dtype = buckets, compute_dtype
        self._fills: list[Fill] = [buckets.fills.get(entry.name, 0) for entry in signature.inputs]
        self._result_shapes = [entry.shape for entry in signature.outputs]
        names = [entry.name for entry in signature.inputs]
        self._needs = [
            (size, names.index(name), axis_of(rules, name, size), value, buckets.fills.get(name, 0))
            for size, inputs in buckets.needs.items()
            for name, value in inputs.items()
        ]
        self._fits: Kept[_Fit] = Kept(_SHAPES)
        super().__init__(rules, make, weights, first, most, in_file)

    def try_tensors(self, tensors: tuple[Any, ...]) -> Sequence[Any] | None:
        try:
            fit = self._fits.get((tuple([tuple(t.shape) for t in tensors]), self._left(tensors)))
        except (AttributeError, TypeError, IndexError, RuntimeError):
            return None
        if fit is None:
            return None
        if not fit.pads:
            return super().try_tensors(tensors)
        if not all(type(t) is np.ndarray or uses_torch([t]) for t in tensors):
            return None
        results = super().try_tensors(tuple(self._padded(fit, tensors)))
        return None if results is None else self._cut(fit, results)

    def run(self, tensors: Sequence[Any], as_torch: bool) -> Sequence[Any]:
        fit = self._fit(tensors)
        if not fit.pads:
            return super().run(tensors, as_torch)
        return self._cut(fit, super().run(self._padded(fit, tensors), as_torch))

    def profile(self, tensors: Sequence[Any], runs: int = 1) -> Any:
        return super().profile(self._padded(self._fit(tensors), tensors), runs)

    def warm_up(self, wanted: Iterable[Any]) -> None:
        """Of a size that calls are padded for, it makes the program of its bucket."""
        each = list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, Mapping) else [wanted]
        super().warm_up(
            [self.buckets.target(self.rules, sizes) if isinstance(sizes, Mapping) else sizes for sizes in each]
        )

    def update(self, weights: Mapping[str, Any]) -> None:
        """Weights that have become masks could hide what the proof takes to be shown."""
        for name, value in weights.items():
            before, after = (is_ordinary(_as_tensor(v), self._compute_dtype) for v in (self._weights[name], value))
            if before and not after:
                what, action = f"the new values of '{name}' are too large for padding", "npu.compile of the other model"
                expected = "finite numbers, as those that padding to buckets was proven with"
                raise InvalidValueError(format_error("npu", what, expected=expected, action=action))
        super().update(weights)

    def _left(self, tensors: Sequence[Any]) -> tuple[str, ...]:
        """The sizes that are not padded in this call, because padding needs more than its inputs have. Once one size is
        padded, inputs no longer have what another one needs."""
        if not self._needs:
            return ()
        unmet = {size for size, i, axis, need, fill in self._needs if not _is_fulfilled(tensors[i], axis, need, fill)}
        met = [size for size in self.buckets.needs if size not in unmet]
        return (*sorted(unmet), *met[1:])

    def _fit(self, tensors: Sequence[Any]) -> _Fit:
        shapes = tuple(tuple(t.shape) for t in tensors)
        sizes = self.rules.sizes_of(shapes)  # refuses wrong ones, before a tensor is read
        left = self._left(tensors)
        return self._fits.get_or_make((shapes, left), lambda: self._new_fit(shapes, sizes, left))

    def _new_fit(self, shapes: tuple[tuple[int, ...], ...], sizes: dict[str, int], left: Sequence[str]) -> _Fit:
        target = self.buckets.target(self.rules, sizes, left)
        padded = self.rules.shapes(target)
        cuts = []
        for shape in self._result_shapes:
            changes = [isinstance(n, Size) and any(target[k] != sizes[k] for k in free_names(n.text)) for n in shape]
            ends = [
                slice(self.rules.value(n.text, sizes)) if c else slice(None)
                for n, c in zip(shape, changes, strict=True)
            ]
            cuts.append(tuple(ends) if any(changes) else None)
        return _Fit(tuple(new if new != old else None for old, new in zip(shapes, padded, strict=True)), tuple(cuts))

    def _padded(self, fit: _Fit, tensors: Sequence[Any]) -> list[Any]:
        return [
            tensor if shape is None else _padded_tensor(tensor, shape, fill)
            for tensor, shape, fill in zip(tensors, fit.shapes, self._fills, strict=True)
        ]

    def _cut(self, fit: _Fit, results: Sequence[Any]) -> Sequence[Any]:
        return tuple(
            result if cut is None else _contiguous(result[cut]) for result, cut in zip(results, fit.cuts, strict=True)
        )

    def steps(self) -> str:
        return f"{super().steps()}, pads {self.buckets}"

    def __repr__(self) -> str:
        return f"{super().__repr__()}; pads {self.buckets}"


def open_runner(
    buckets: Buckets | None, signature: Signature, rules: SizeRules, make: Make, weights: SharedWeights,
    first: Mapping[str, int], most: int, compute_dtype: str | None, in_file: Sequence[SavedSize] = (),
) -> OpenRunner:  # fmt: skip
    """The runner of open sizes, with the program of ``first``."""
    if buckets is None:
        return OpenRunner(rules, make, weights, first, most, in_file)
    return BucketRunner(buckets, signature, rules, make, weights, first, most, compute_dtype, in_file)


def _padded_tensor(tensor: Any, shape: tuple[int, ...], fill: Fill) -> Any:
    real = tuple([slice(n) for n in tensor.shape])
    if uses_torch([tensor]):
        tensor = tensor.detach()
        padded = tensor.new_full(shape, fill)
    else:
        tensor = _as_array(tensor)
        padded = np.full(shape, fill, tensor.dtype)
    padded[real] = tensor
    return padded


def _as_tensor(value: Any) -> Any:
    return value if uses_torch([value]) else _as_array(value)


def _as_array(tensor: Any) -> Any:
    if isinstance(tensor, np.ndarray):
        return tensor
    return tensor.to_numpy() if hasattr(tensor, "to_numpy") else np.from_dlpack(tensor)


def _contiguous(result: Any) -> Any:
    return result.contiguous() if uses_torch([result]) else np.ascontiguousarray(result)


def _is_fulfilled(tensor: Any, axis: Any, need: Any, fill: Fill) -> bool:
    array = tensor if uses_torch([tensor]) else _as_array(tensor)
    if array.shape[axis] == 0:
        return False
    first = array[(slice(None),) * axis + (0,)]
    if need == ABOVE:
        return bool((first > fill).all())
    inside = (array >= min(need, fill)) & (array <= max(need, fill))
    return bool((first == need).all()) and bool(inside.all())
