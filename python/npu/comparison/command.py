"""The command ``npu compare``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from npu_base.commands import integer

from npu.commands.arguments import (
    input_argument,
    refuse_for,
    seed_argument,
    source_argument,
    threads_argument,
    weights_arguments,
)
from npu.commands.sources import ANY, find_source

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu compare net.npu --with metal",
    "npu compare my_models:Net --input 1,3,224,224 --with pytorch",
    "npu compare model_ir.json --device cpu --with metal --save step.safetensors",
)

BEYOND = 1
TROUBLE = 2
_DELAY = 1.0  # seconds before progress is shown


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.set_defaults(trouble=TROUBLE)
    source_argument(p, ANY, "or a step that --save wrote (.safetensors)")
    p.add_argument("--device", help="the first device, whose results all steps read (default: cpu)")
    p.add_argument(
        "--with", dest="other", metavar="DEVICE", help="the second one: cpu, cuda, metal, metal:emulated, or pytorch"
    )
    p.add_argument("--ir", type=Path, help="the IR file of a program, to show lines of code, and for --with pytorch")
    p.add_argument("--inputs", type=Path, help="a .safetensors file of inputs by name (default: random, integers zero)")
    input_argument(p, "the size of a model's input; may be repeated")
    weights_arguments(p, "those of the model or saved file, else random")
    seed_argument(p)
    threads_argument(p)
    p.add_argument(
        "--spread", action="store_true", help="also show the error if the second device goes on with its own results"
    )
    p.add_argument(
        "--save", type=Path, metavar="FILE", help="write the operands of the first step beyond the rule to FILE"
    )
    p.add_argument("--step", metavar="NAME", help="with --save, write those of this step instead")
    shown = p.add_mutually_exclusive_group()
    shown.add_argument(
        "--top", type=integer(1, 10**9), default=20, metavar="N", help="show the N steps that differ most (default: 20)"
    )
    shown.add_argument("--all", action="store_true", help="show all steps")
    shown.add_argument("--json", action="store_true", help="print all steps as JSON instead of text")


def run(args: argparse.Namespace) -> int:
    from npu_runtime.errors import InvalidValueError

    from npu.comparison.api import compare
    from npu.comparison.saved import is_saved_step
    from npu.comparison.table import print_table
    from npu.consoles import output_console

    if args.step and not args.save:
        raise InvalidValueError("[compare] --step chooses the step that --save writes; try --save FILE too")
    saved = is_saved_step(args.source)
    if saved:
        _refuse_unused(args)
    elif args.other is None:
        raise InvalidValueError("[compare] --with is missing; expected a second device, or pytorch; try --with metal")
    device = args.device or (None if saved else "cpu")
    subject, inputs, weights = (args.source, args.inputs, args.weights) if saved else _subject(args)
    with _Progress() as progress:
        report = compare(
            subject, device, args.other, inputs=inputs, weights=weights, ir=args.ir, seed=args.seed,
            threads=args.threads, spread=args.spread, step=args.step, save=args.save, progress=progress,
        )  # fmt: skip
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        print_table(report, output_console(), None if args.all else args.top)
    if report.saved is not None:
        stream = sys.stderr if args.json else sys.stdout
        print(f"Saved; to run this step again: npu compare {report.saved}", file=stream)
    if report.stopped:
        return TROUBLE
    return 0 if report.agrees else BEYOND


def _subject(args: argparse.Namespace) -> tuple[Any, Any, Any]:
    """What ``compare`` takes, its inputs and its weights. A model in Python brings them."""
    source = find_source(args.source, ANY, args.command)
    if not source.needs_inputs:
        refuse_for(source, args, ("input", "random-weights"))
        return source.file, args.inputs, args.weights
    refuse_for(source, args, ("inputs", "ir"))
    from torch_ir.inputs import InputBinder

    import npu
    from npu.commands.models import open_model

    model = open_model(source, args)
    with model.example.named_in_errors():
        ir = npu.extract(model.module, model.example.args, model.example.kwargs)
    tensors = InputBinder(ir, strict=True).bind(model.example.args, model.example.kwargs)
    return ir, {meta.name: t for meta, t in zip(ir.graph_inputs, tensors, strict=True)}, model.module


def _refuse_unused(args: argparse.Namespace) -> None:
    from npu_runtime.errors import InvalidValueError

    unused = [f"--{name}" for name in ("ir", "inputs", "input", "weights", "save", "spread") if getattr(args, name)]
    if unused:
        raise InvalidValueError(
            f"[compare] a saved step has its own operands; got {', '.join(unused)} too; expected only devices"
        )


class _Progress:
    """The step that runs, on a terminal, once it takes longer than a second."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._status: Any = None

    def __enter__(self) -> _Progress:
        return self

    def __call__(self, done: int, total: int, name: str) -> None:
        if not sys.stderr.isatty() or time.monotonic() - self._begin < _DELAY:
            return
        text = f"step {done + 1} of {total}: {name}"
        if self._status is None:
            from rich.console import Console
            from rich.status import Status
            from rich.text import Text

            self._status = Status(Text(text), console=Console(stderr=True))
            self._status.start()
        self._status.update(Text(text))

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()
