"""The ``npu`` command. PyTorch is imported only to generate text and to read .pt files."""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from zipfile import BadZipFile

from npu_base.commands import SEED, THREADS, integer, run_command
from npu_base.errors import InvalidValueError
from npu_base.files import file_error, make_folder, write_file
from npu_runtime import __version__

__all__ = ["create_parser", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(create_parser(), argv, (ValueError, RuntimeError, ImportError))


def create_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="npu", description="Compile PyTorch models into programs, run them, and show what runs where and how fast."
    )
    parser.add_argument("--version", action="version", version=f"npu {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    for name, (run, add_arguments, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(run=run)
        add_arguments(command)
    return parser


def _compile_arguments(p: argparse.ArgumentParser) -> None:
    _ir_argument(p, "compile")
    p.add_argument(
        "-o", "--output", type=Path, help="the file to write (default: the name of the IR file with .npubin)"
    )
    p.add_argument("--compute-dtype", choices=["float16", "bfloat16"], help="compute a float32 model in this dtype")
    p.add_argument(
        "--disable", action="append", default=[], metavar="PASS", help="disable a compiler pass; may be repeated"
    )
    p.add_argument(
        "--exact", action="store_true", help="round half-precision results after every op, as eager PyTorch does"
    )


def _run_arguments(p: argparse.ArgumentParser) -> None:
    _program_arguments(p)
    p.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=FILE.npy",
        help="read an input from a file; may be repeated",
    )
    p.add_argument("-o", "--output", type=Path, help="write each output to a .npy file in this folder")


def _plan_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("program", type=Path, help="the program (.npubin) to plan")
    p.add_argument(
        "--device",
        help="cpu, cuda, metal, or a chip on paper such as metal:m4pro or cuda:h200 (default: the best available)",
    )
    _threads_argument(p)
    p.add_argument("--text", action="store_true", help="show the program itself, which is the same for all devices")


def _explain_arguments(p: argparse.ArgumentParser) -> None:
    _ir_argument(p, "check")
    _json_argument(p)


def _partition_arguments(p: argparse.ArgumentParser) -> None:
    _ir_argument(p, "partition")
    p.add_argument(
        "--strategy",
        choices=["sequential", "cost"],
        default="sequential",
        help="keep the order of nodes, or reorder them for fewer transfers (default: sequential)",
    )
    p.add_argument("--strict", action="store_true", help="fail and list all reasons if any node would run on the host")
    _json_argument(p)


def _bench_arguments(p: argparse.ArgumentParser) -> None:
    _program_arguments(p)
    p.add_argument("--runs", type=integer(1, 10**9), default=20, help="the number of runs to time (default: 20)")
    p.add_argument("--warmup", type=integer(0, 10**9), default=3, help="the number of runs before those (default: 3)")
    p.add_argument("--profile", action="store_true", help="also show the time of each kernel")
    p.add_argument("--trace", type=Path, metavar="FILE", help="write a Chrome trace of the last profiled run to FILE")
    _json_argument(p)


def _doctor_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--kernels",
        action="store_true",
        help="compare the kernels of a GPU with the CPU on a sample of programs, about a minute; "
        "the exit status is 1 if any deviates or cannot be run",
    )
    p.add_argument("--device", help="the GPU for --kernels (default: the best available, else metal:emulated)")
    _json_argument(p)


def _ir_argument(p: argparse.ArgumentParser, verb: str) -> None:
    p.add_argument("ir", type=Path, help=f"the IR file (.json) to {verb}")


def _program_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("program", type=Path, help="the program (.npubin) to run")
    p.add_argument(
        "--weights",
        type=Path,
        help="a .safetensors file, the index of a sharded one, a folder with either, or a .pt file (default: random)",
    )
    p.add_argument("--device", help="cpu, cuda, metal or metal:emulated (default: the best available)")
    _threads_argument(p)
    p.add_argument("--seed", type=SEED, default=0, help="the seed of random weights and inputs (default: 0)")


def _threads_argument(p: argparse.ArgumentParser) -> None:
    p.add_argument("--threads", type=THREADS, default=0, help="the number of threads (default: all usable cores)")


def _json_argument(p: argparse.ArgumentParser) -> None:
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def _generate_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("folder", type=Path, help="a folder with config.json, safetensors and, for text, a tokenizer")
    p.add_argument("--prompt", help="the text to continue")
    p.add_argument("--ids", metavar="1,2,3", help="the tokens to continue, instead of --prompt; needs no tokenizer")
    p.add_argument("--chat", action="store_true", help="apply the tokenizer's chat template to the prompt")
    p.add_argument("--tokens", type=integer(1, 10**9), default=128, help="the maximum number of tokens (default: 128)")
    p.add_argument("--temperature", type=float, default=0.0, help="0, the default, chooses the most likely token")
    p.add_argument(
        "--top-k", type=integer(0, 10**9), default=0, help="sample only from the k most likely tokens (default: all)"
    )
    p.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        help="sample only from the most likely tokens that together have this probability (default: 1, all)",
    )
    p.add_argument(
        "--repetition-penalty",
        type=float,
        default=1.0,
        help="make tokens that occurred before less likely (default: 1, no penalty)",
    )
    p.add_argument("--seed", type=SEED, default=0, help="the seed for sampling (default: 0)")
    p.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end the text before TEXT; may be repeated"
    )
    p.add_argument("--device", help="cpu, cuda, metal or metal:emulated (default: the best available)")
    _threads_argument(p)
    p.add_argument(
        "--capacity", type=integer(1, 10**9), help="the number of tokens that the caches hold (default: at most 2048)"
    )
    p.add_argument(
        "--dtype", choices=["float32", "float16", "bfloat16"], help="compute in this dtype (default: the checkpoint's)"
    )
    p.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="the folder for compiled programs (default: ~/.cache/npu)"
    )
    p.add_argument("--no-cache", action="store_true", help="compile all programs, and do not cache them")
    p.add_argument("--stats", action="store_true", help="show where the time went")


def _generate(args: argparse.Namespace) -> int:
    from npu.generate import run

    return run(args)


def _compile(args: argparse.Namespace) -> int:
    import npu_compiler

    begin = time.perf_counter()
    program = npu_compiler.compile(args.ir, compute_dtype=args.compute_dtype, disable=args.disable, exact=args.exact)
    output = args.output or args.ir.with_suffix(".npubin")
    if output.exists() and output.samefile(args.ir):
        raise InvalidValueError(
            f"[npu] the program would overwrite the IR file; got {output} for both; try another --output"
        )
    program.save(output)
    took = (time.perf_counter() - begin) * 1e3
    print(f"{output}: {program!r}, {output.stat().st_size:,} bytes, {took:.0f} ms")
    return 0


def _executor(args: argparse.Namespace) -> Any:
    from npu_runtime import Device, Executor

    return Executor(args.program, Device(args.device), threads=args.threads)


def _weights(args: argparse.Namespace, executor: Any) -> Any:
    from npu_runtime import Weights, load_weights

    if args.weights is None:
        return Weights.random(executor.program, args.seed)
    return load_weights(args.weights, executor.program, executor.device)


def _inputs(executor: Any, seed: int, arrays: dict[str, Any]) -> dict[str, Any]:
    from npu.random_tensors import random_inputs

    return random_inputs(executor.program.inputs, seed, arrays)


def _read_inputs(executor: Any, arguments: list[str]) -> dict[str, Any]:
    import numpy as np

    dtypes = {spec.name: spec.dtype for spec in executor.program.inputs}
    arrays = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals:
            raise InvalidValueError(f"[npu] --input must have the form NAME=FILE.npy; got {argument!r}")
        if name not in dtypes:
            raise InvalidValueError(
                f"[npu] the program has no such input; got {name}; expected one of {', '.join(dtypes)}"
            )
        try:
            array = np.load(path, allow_pickle=False)
        except OSError as error:
            raise file_error("read", path, error) from error
        except (ValueError, EOFError, BadZipFile) as error:
            raise InvalidValueError(f"[npu] {path} is not a valid .npy file: {error}") from error
        if not isinstance(array, np.ndarray):
            raise InvalidValueError(f"[npu] {path} contains several arrays; expected a .npy file, which contains one")
        arrays[name] = _as_bfloat16(array) if dtypes[name] == "bfloat16" else array
    return arrays


def _as_bfloat16(array: Any) -> Any:
    """The .npy format has no bfloat16: such a file has raw bits, or float32 as `run -o` writes it."""
    import ml_dtypes

    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        return array.view(ml_dtypes.bfloat16)
    return array.astype(ml_dtypes.bfloat16) if array.dtype.name == "float32" else array


def _run(args: argparse.Namespace) -> int:
    import numpy as np

    executor = _executor(args)
    weights = _weights(args, executor)
    outputs = executor.run(_inputs(executor, args.seed, _read_inputs(executor, args.input)), weights)
    if args.output:
        make_folder(args.output)
    for name, buffer in outputs.items():
        array = buffer.to_numpy()
        values = array.astype(np.float64)
        spread = f"min {values.min():.6g}, mean {values.mean():.6g}, max {values.max():.6g}" if array.size else "empty"
        print(f"{name}: {array.dtype}{list(array.shape)} {spread}")
        if args.output:
            file = re.sub(r"[^\w.-]", "_", name).lstrip(".")  # names in a program may not be valid file names
            write_file(args.output / f"{file}.npy", _as_npy(array))
    return 0


def _as_npy(array: Any) -> memoryview:
    import numpy as np

    file = io.BytesIO()
    np.save(file, array.astype(np.float32) if array.dtype.kind == "V" else array)
    return file.getbuffer()


def _plan(args: argparse.Namespace) -> int:
    from npu_runtime import Program

    if args.text and (args.device or args.threads):
        option = "--device" if args.device else "--threads"
        raise InvalidValueError(
            f"[npu] --text shows the program itself, which is the same for all devices; got {option} too; "
            "expected only one of the two; try without --text, which shows the plan for a device"
        )
    if args.text:
        print(Program.load(args.program).text(), end="")
    else:
        print(_executor(args).plan(), end="")
    return 0


def _explain(args: argparse.Namespace) -> int:
    from npu.explanation import explain

    explanation = explain(args.ir)
    if args.json:
        print(json.dumps(explanation.to_dict(), indent=2))
    else:
        explanation.print()
    return 0 if explanation.whole else 1


def _partition(args: argparse.Namespace) -> int:
    import npu_compiler

    report = npu_compiler.partition(args.ir, strategy=args.strategy, strict=args.strict).explain()
    print(json.dumps(report.to_dict(), indent=2) if args.json else report)
    return 0


def _bench(args: argparse.Namespace) -> int:
    from npu_runtime import Profiler

    executor = _executor(args)
    weights = _weights(args, executor)
    inputs = _inputs(executor, args.seed, {})
    session = executor.session()
    session.run(inputs, weights)
    session.settle()
    for _ in range(args.warmup):
        session.run(inputs, weights)
    times = []
    for _ in range(args.runs):
        begin = time.perf_counter()
        session.run(inputs, weights)
        times.append((time.perf_counter() - begin) * 1e3)
    times.sort()
    figures: dict[str, Any] = {
        "program": executor.program.model_name,
        "device": executor.device.name,
        "threads": executor.threads,
        "runs": args.runs,
        "min_ms": times[0],
        "median_ms": median(times),
        "max_ms": times[-1],
    }
    profiler = Profiler(executor)
    if args.profile or args.trace:
        for _ in range(args.runs):
            profiler.run(inputs, weights)
        figures["profile"] = profiler.to_dict()["kernels"]
    if args.trace:
        profiler.save_chrome_trace(args.trace)
    if args.json:
        print(json.dumps(figures, indent=2))
        return 0
    print(f"{executor!r} on {executor.device.name}")
    print(f"min {times[0]:.3f} ms, median {figures['median_ms']:.3f} ms, max {times[-1]:.3f} ms over {args.runs} runs")
    if args.profile:
        profiler.print_summary("op")
    return 0


def _compare_arguments(p: argparse.ArgumentParser) -> None:
    from npu.comparison.command import add_arguments

    add_arguments(p)


def _compare(args: argparse.Namespace) -> int:
    from npu.comparison.command import run

    return run(args)


def _doctor(args: argparse.Namespace) -> int:
    from npu.doctor import print_report, report, run_kernels

    if args.kernels:
        return run_kernels(args.device, args.json)
    if args.device:
        raise InvalidValueError("[npu] --device is the device whose kernels are checked; expected --kernels too")
    results = report()
    print(json.dumps(results, indent=2)) if args.json else print_report(results)
    return 0


_COMMANDS: dict[str, tuple[Callable[[Any], int], Callable[[argparse.ArgumentParser], None], str]] = {
    "compile": (_compile, _compile_arguments, "compile an IR file into an .npubin program"),
    "run": (_run, _run_arguments, "run a program once, on your own arrays or on random inputs"),
    "plan": (_plan, _plan_arguments, "show the plan of a program: its kernels, layouts and memory offsets"),
    "explain": (
        _explain, _explain_arguments, "show which nodes of an IR can run on the device, and why others cannot"
    ),
    "partition": (
        _partition, _partition_arguments, "show how an IR is split between device and host, and the cost"
    ),
    "compare": (
        _compare, _compare_arguments, "run a program on two devices step by step, and show where they differ"
    ),
    "bench": (_bench, _bench_arguments, "measure how long a program takes"),
    "generate": (_generate, _generate_arguments, "generate text with a language model from a folder"),
    "doctor": (
        _doctor, _doctor_arguments, "show what is installed, which devices are available, and why others are not"
    ),
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
