"""Seeded tensors for runs without real ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["random_inputs", "random_weights"]


def random_inputs(specs: Iterable[Any], seed: int, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's arrays, and random ones for the other inputs. Integers are zero, which is a valid index anywhere."""
    import ml_dtypes
    import numpy as np

    random = np.random.default_rng(seed + 1)
    inputs = {}
    for spec in specs:
        if spec.name in arrays:
            inputs[spec.name] = arrays[spec.name]
            continue
        dtype = ml_dtypes.bfloat16 if spec.dtype == "bfloat16" else np.dtype(spec.dtype)
        if "float" in spec.dtype:
            inputs[spec.name] = random.standard_normal(spec.shape).astype(dtype)
        else:
            inputs[spec.name] = np.zeros(spec.shape, dtype)
    return inputs


def random_weights(metas: Iterable[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """For an IR, which may have weights that no program can read; ``Weights.random`` is for programs. The spread falls
    with the number of inputs of an output, as that of initialisers does."""
    import ml_dtypes
    import numpy as np

    random = np.random.default_rng(seed)
    weights = {}
    for meta in metas:
        shape, dtype = meta["shape"], meta["dtype"]
        numpy_dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
        if "float" not in dtype:
            weights[meta["name"]] = np.zeros(shape, numpy_dtype)
            continue
        fan = math.prod(shape) / shape[0] if len(shape) > 1 and shape[0] else 4
        spread = math.sqrt(3 / max(fan, 1))
        low, high = (0.5, 1.5) if "var" in meta["name"] else (-spread, spread)
        weights[meta["name"]] = random.uniform(low, high, shape).astype(numpy_dtype)
    return weights
