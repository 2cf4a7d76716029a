"""Programs, weights and inputs of commands that run something."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["inputs_of", "open_executor", "weights_of"]


def open_executor(args: argparse.Namespace) -> Any:
    from npu_runtime import Device, Executor

    return Executor(args.program, Device(args.device), threads=args.threads)


def weights_of(args: argparse.Namespace, executor: Any) -> Any:
    from npu_runtime import Weights, load_weights

    if args.weights is None:
        return Weights.random(executor.program, args.seed)
    return load_weights(args.weights, executor.program, executor.device)


def inputs_of(executor: Any, seed: int, arrays: dict[str, Any]) -> dict[str, Any]:
    from npu.random_tensors import random_inputs

    return random_inputs(executor.program.inputs, seed, arrays)
