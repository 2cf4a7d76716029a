"""The command ``npu plan``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any

from npu_base.commands import usage_error

from npu.commands.arguments import (
    compute_dtype_argument,
    input_argument,
    refuse_for,
    source_argument,
    threads_argument,
)
from npu.commands.inputs import parse_inputs, shapes_of
from npu.commands.programs import ir_of
from npu.commands.sources import ANY, Kind, Source, find_source

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu plan net.npu",
    "npu plan my_models:Net --input 1,3,224,224 --device metal:m4pro  # a chip that is not here",
    "npu plan sized.npu --input 8,3,224,224",
    "npu plan model.npubin --text",
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    source_argument(p, ANY)
    input_argument(p, "the size of a model's input, or of a saved file whose sizes are open; may be repeated")
    p.add_argument(
        "--device",
        help="cpu, cuda, metal, or a chip on paper such as metal:m4pro or cuda:h200 (default: the best available)",
    )
    threads_argument(p)
    compute_dtype_argument(p)
    p.add_argument("--text", action="store_true", help="show the program itself, which is the same for all devices")


def run(args: argparse.Namespace) -> int:
    if args.text and (args.device or args.threads):
        option = "--device" if args.device else "--threads"
        raise usage_error(
            "--text shows the program itself, which is the same for all devices", f"{option} too",
            "only one of the two", "without --text, which shows the plan for a device",
        )  # fmt: skip
    for title, shown in _plans(args):
        if title:
            print(title)
        print(shown, end="")
    return 0


_Plans = Iterator[tuple[str, str]]
"""A line above, and the plan or the text of a program."""


def _plans(args: argparse.Namespace) -> _Plans:
    source = find_source(args.source, ANY, args.command)
    if source.kind == Kind.SAVED:
        return _of_saved_file(source, args)
    if source.kind == Kind.PROGRAM:
        from npu_runtime import Program

        refuse_for(source, args, ("input", "compute-dtype"))
        return iter([("", _shown(Program.load(source.file), args))])
    return _of_ir(source, args)


def _of_ir(source: Source, args: argparse.Namespace) -> _Plans:
    import npu_compiler
    from npu_compiler.reader import load_ir
    from torch_ir.progress import status

    from npu.compiled_ir import host_if_there
    from npu.host_parts import make_parts, whole_program

    ir, compile_ir = load_ir(ir_of(source, args)), partial(npu_compiler.compile, compute_dtype=args.compute_dtype)
    with status(f"Compiling {args.source}"):
        program = whole_program(ir, compile_ir, host_if_there("host"))
    if program is not None:
        yield "", _shown(program, args)
    else:
        parts, program_of = make_parts(dict(ir), compile_ir)
        yield from _of_parts(parts.plan, program_of, args)


def _of_saved_file(source: Source, args: argparse.Namespace) -> _Plans:
    from npu.saving.model import read_model

    refuse_for(source, args, ("compute-dtype",))
    model, program = read_model(source.file)
    if model.open is None:
        refuse_for(source, args, ("input",))
    if program is not None:
        yield "", _shown(program, args)
    elif model.parts is not None:
        yield from _of_parts(model.parts.plan, model.parts.program_of, args)
    else:
        yield from _of_sizes(model, args)


def _of_sizes(model: Any, args: argparse.Namespace) -> _Plans:
    """Of the size of the inputs, or of all sizes in the file."""
    from npu_runtime import Program

    from npu.loaded_sizes import saved_size

    names = [entry.name for entry in model.signature.inputs]
    chosen: list[tuple[Any, Any]] = [(size, None) for size in model.open.saved]
    if args.input:
        sizes = model.open.rules.sizes_of(shapes_of(parse_inputs(args.input), names))
        if model.open.buckets is not None:
            sizes = model.open.buckets.target(model.open.rules, sizes)
        chosen = [saved_size(model, sizes)]
    for size, program_of in chosen:
        yield f"{size}:", ""
        if size.parts is None:
            yield "", _shown(Program.parse(size.code), args)
        else:
            yield from _of_parts(size.parts.plan, program_of or size.parts.program_of, args)


def _of_parts(plan: Any, program_of: Any, args: argparse.Namespace) -> _Plans:
    from npu_runtime import DAGExecutor, Device
    from npu_runtime.backend import backend_of

    from npu.host_parts import count_of_ops

    dag = DAGExecutor(plan, backend_of(Device(args.device), args.threads), program_of)
    for part in dag.parts:
        number, count = part.partition_id, f"{len(part.nodes)} node{'s' * (len(part.nodes) != 1)}"
        if part.target == "npu":
            executor = dag.executors[number]
            yield f"part {number}, device, {count}", executor.program.text() if args.text else executor.plan()
        else:
            yield f"part {number}, host, {count}: {count_of_ops(part.nodes)}", ""


def _shown(program: Any, args: argparse.Namespace) -> str:
    if args.text:
        return str(program.text())
    from npu_runtime import Device, Executor

    return Executor(program, Device(args.device), threads=args.threads).plan()
