"""The command ``npu compile``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from npu_base.commands import usage_error
from npu_base.files import check_target

from npu.commands.arguments import (
    compute_dtype_argument,
    device_argument,
    fallback_argument,
    input_argument,
    refuse_for,
    seed_argument,
    source_argument,
    weights_arguments,
)
from npu.commands.inputs import parse_inputs
from npu.commands.open_inputs import OpenInputs, read_open_inputs
from npu.commands.programs import compile_ir_of, ir_of
from npu.commands.sources import Kind, Source, find_source

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu compile my_models:Net --input 1,3,224,224",
    "npu compile my_models:build --input ids=1,128:int64 --input mask=1,128 --weights net.safetensors -o net.npu",
    "npu compile google-bert/bert-base-uncased --input input_ids=1,128 --input attention_mask=1,128",
    "npu compile my_models:Net --input batch,3,224,224 --size batch=1-64 --warm-up batch=1 --warm-up batch=8",
    "npu compile model_ir.json -o model.npubin",
    "npu compile model_ir.json --weights net.safetensors -o net.npu",
)

_TAKES = (Kind.IR, Kind.MODULE, Kind.FOLDER)
_OTHER_FORMATS = (
    ".onnx", ".pt", ".pth", ".pt2", ".pte", ".ckpt", ".bin", ".safetensors", ".gguf", ".tflite", ".mlmodel",
    ".mlpackage", ".engine", ".plan", ".xml", ".pb", ".h5", ".keras", ".npy", ".npz", ".py",
)  # fmt: skip
_OF_SAVED_FILES = ("weights", "random-weights", "device", "fallback", "warm-up")


def add_arguments(p: argparse.ArgumentParser) -> None:
    source_argument(p, _TAKES)
    p.add_argument(
        "-o", "--output", type=Path,
        help="the file to write: a saved file (.npu), a program without weights (.npubin), or the IR of a model "
        "(.json) (default: the name of the model with .npu, or of the IR with .npubin, or .npu if it is given weights)",
    )  # fmt: skip
    input_argument(
        p, "the size of an example input of a model; one for each argument of its forward. A name leaves a size open, "
        "as in batch,3,224,224 or 2*rows,8"
    )  # fmt: skip
    p.add_argument(
        "--size", action="append", default=[], metavar="NAME=MIN-MAX",
        help="the range of an open size, such as batch=1-64, or 1- for no limit (default: from 1); may be repeated",
    )  # fmt: skip
    p.add_argument(
        "--warm-up", action="append", default=[], metavar="NAME=N[,...]",
        help="open sizes that the saved file has a program for, such as batch=8; others are compiled when they are "
        "used; may be repeated (default: an example)",
    )  # fmt: skip
    weights_arguments(p, "the model's own; an IR has none")
    device_argument(p, ". A saved file is for all devices; this one must be able to run it")
    compute_dtype_argument(p)
    fallback_argument(p)
    seed_argument(p)
    p.add_argument(
        "--disable", action="append", default=[], metavar="PASS", help="disable a compiler pass; may be repeated"
    )
    p.add_argument(
        "--exact", action="store_true", help="round half-precision results after every op, as eager PyTorch does"
    )


def run(args: argparse.Namespace) -> int:
    begin = time.perf_counter()
    source = find_source(args.source, _TAKES, args.command)
    has_weights = source.needs_inputs or args.weights is not None or args.random_weights
    output = args.output or _default(source, ".npu" if has_weights else ".npubin")
    if output.suffix.lower() in _OTHER_FORMATS:
        expected = "a name that ends with .npu (a saved file), .npubin (a program) or .json (an IR)"
        raise usage_error(f"`npu compile` does not write {output.suffix} files", f"--output {output}", expected)
    is_saved = output.suffix == ".npu" or (source.needs_inputs and output.suffix not in (".npubin", ".json"))
    if source.kind == Kind.IR:
        refuse_for(source, args, ("input", "size", "warm-up"))
        _check_output_of_ir(source, output, is_saved and not has_weights)
    inputs = read_open_inputs(parse_inputs(args.input, with_open_sizes=True), args.size, args.warm_up)
    if inputs.sizes and output.suffix == ".npubin":
        what, got = "a program has fixed sizes", f"--output {output}, and {', '.join(s.name for s in inputs.sizes)}"
        expected = "a saved file (.npu) or an IR (.json), which may have open sizes"
        raise usage_error(what, got, expected)
    check_target(output)  # before the work, which may take minutes
    if is_saved:
        compiled = _save(source, args, inputs, output)
    else:
        _refuse_without_weights(args, output)
        if output.suffix == ".json":
            refuse_for(source, args, ("compute-dtype", "disable", "exact"))
        compiled = _without_weights(source, args, inputs, output)
    took = (time.perf_counter() - begin) * 1e3
    print(f"{output}: {compiled!r}, {output.stat().st_size:,} bytes, {took:.0f} ms")
    return 0


def _refuse_without_weights(args: argparse.Namespace, output: Path) -> None:
    for option in _OF_SAVED_FILES:
        if getattr(args, option.replace("-", "_")):
            kind = "an IR" if output.suffix == ".json" else "a program"
            what, got = f"--{option} has no effect on {kind}, which has no weights", f"--output {output}"
            raise usage_error(what, got, "a saved file, which ends with .npu")


def _check_output_of_ir(source: Source, output: Path, lacks_weights: bool) -> None:
    if output.exists() and output.samefile(source.file):
        raise usage_error("the program would overwrite the IR file", f"{output} for both", "another --output")
    what, got = "an IR is compiled into a program (.npubin) or a saved file (.npu)", f"--output {output}"
    if output.suffix == ".json":
        raise usage_error(what, got, "a name that ends with .npubin or .npu")
    if lacks_weights:
        what, expected = "a saved file has weights, and an IR has none", "--weights FILE, or --random-weights"
        raise usage_error(what, got, expected)


def _default(source: Source, suffix: str) -> Path:
    """In the folder of an IR, else in the current one."""
    if source.kind == Kind.IR:
        return source.file.with_suffix(suffix)
    if source.kind == Kind.MODULE:
        return Path(source.text.replace(":", ".").rpartition(".")[2] + suffix)
    path = Path(source.text)
    return Path((path.resolve() if path.exists() else path).name + suffix)


def _without_weights(source: Source, args: argparse.Namespace, inputs: OpenInputs, output: Path) -> Any:
    """Write the program, or the IR."""
    import npu_compiler
    from npu_compiler.refusals import HOST_ADVICE
    from torch_ir.progress import status

    ir = ir_of(source, args, inputs)
    if output.suffix == ".json":
        ir.save(output)
        return ir
    try:
        with status(f"Compiling {source.text}"):
            program = npu_compiler.compile(ir, compute_dtype=args.compute_dtype, disable=args.disable, exact=args.exact)
    except npu_compiler.CompileError as error:
        if type(error) is not npu_compiler.CompileError:
            raise  # the host could not run it either
        weights = " --weights FILE" if source.kind == Kind.IR else ""
        command = f"npu compile {source.text}{weights} -o NAME.npu"
        advice = f"A saved file can run such nodes on the host: `{command}` writes one"
        raise npu_compiler.CompileError(str(error).replace(HOST_ADVICE, advice)) from error
    program.save(output)
    return program


def _save(source: Source, args: argparse.Namespace, inputs: OpenInputs, output: Path) -> Any:
    """Write a saved file, with weights."""
    from torch_ir.progress import status

    if source.kind == Kind.IR:
        compiled = compile_ir_of(source, args, disable=args.disable, exact=args.exact)
    else:
        compiled = _compile_model(source, args, inputs)
    with status(f"Writing {output}"):
        compiled.save(output)
    return compiled


def _compile_model(source: Source, args: argparse.Namespace, inputs: OpenInputs) -> Any:
    from torch_ir.progress import status

    import npu
    from npu.commands.models import open_model
    from npu.open_sizes import MOST_SIZES

    device = npu.Device(args.device)
    model = open_model(source, args, open_inputs=inputs)
    with status(f"Compiling {source.text}"), model.example.named_in_errors():
        compiled = npu.compile(
            model.module, model.example.args, model.example.kwargs, device=device, compute_dtype=args.compute_dtype,
            disable=args.disable, exact=args.exact, fallback=args.fallback or "host",
            dynamic_shapes=model.dynamic_shapes, max_sizes=max(MOST_SIZES, len(inputs.warm_up)),
        )  # fmt: skip
        if inputs.warm_up:
            compiled.warm_up(inputs.warm_up)
    return compiled
