"""Programs, weights and inputs of commands that run something."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["inputs_of", "open_executor", "open_program", "weights_of"]


def open_program(args: argparse.Namespace) -> tuple[Any, Any]:
    """The program in a file of its own or in a saved file, and the weights of a saved file, else None."""
    from npu_runtime import Program

    from npu.saving.container import is_saved
    from npu.saving.model import open_model

    if not is_saved(args.program):
        return Program.load(args.program), None
    model, program = open_model(args.program)
    return program, model.weights


def open_executor(args: argparse.Namespace) -> tuple[Any, Any]:
    """An executor, and the weights of a saved file, else None."""
    from npu_runtime import Device, Executor

    program, weights = open_program(args)
    return Executor(program, Device(args.device), threads=args.threads), weights


def weights_of(args: argparse.Namespace, executor: Any, saved: Any) -> Any:
    from npu_runtime import Weights, load_weights

    if args.weights is not None:
        return load_weights(args.weights, executor.program, executor.device)
    return saved if saved is not None else Weights.random(executor.program, args.seed)


def inputs_of(executor: Any, seed: int, arrays: dict[str, Any]) -> dict[str, Any]:
    from npu.random_tensors import random_inputs

    return random_inputs(executor.program.inputs, seed, arrays)
