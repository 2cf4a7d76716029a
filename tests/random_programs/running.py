"""Runs programs on a device and compares what they give with the reference interpreter."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from npu_compiler import reference
from npu_runtime import Device, Executor, NPUBuffer, Program, Weights, load_weights

from .making import Made
from .values import Array


def check(made: Made, device: Device, threads: int) -> None:
    """Runs it three times: twice as it is, then with what it updates donated."""
    executor = Executor(made.program, device, threads=threads)
    weights = load_weights(made.weights, made.program) if made.weights else Weights()
    expected = reference.run(made.program, made.inputs, made.weights)
    for donate in (set(), set(), {made.updated[name] for name in made.outputs if name in made.updated}):
        inputs: dict[str, Any] = dict(made.inputs)
        for name in donate:
            inputs[name] = NPUBuffer.from_numpy(made.inputs[name].copy(), device)
        got = executor.run(inputs, weights, donate=donate)
        for name, (_, tolerance) in made.outputs.items():
            fault = difference(got[name].to_numpy(), expected[name], tolerance)
            assert not fault, f"{name}: {fault}"


def difference(got: Array, want: Array, tolerance: float) -> str:
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}{list(got.shape)}, expected {want.dtype}{list(want.shape)}"
    if want.dtype.kind in "iub":
        wrong = got != want
    else:
        a, b = got.astype(np.float64), want.astype(np.float64)
        with np.errstate(invalid="ignore"):
            wrong = ~((a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= tolerance))
    if not wrong.any():
        return ""
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"at {list(place)} {got[place]}, expected {want[place]} (give or take {tolerance:.3g})"


def text_of(made: Made) -> str:
    ops = [json.dumps(op) for function in ("prepare", "main") for op in made.program.data[function]]
    return "\n".join([Program.parse(made.program.to_bytes()).text(), *ops])
