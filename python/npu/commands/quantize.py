"""The command ``npu quantize``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_base.commands import integer
from npu_base.errors import InvalidValueError, format_error

from npu.commands.arguments import json_argument, threads_argument
from npu.commands.sources import model_folder

if TYPE_CHECKING:
    from npu.quantized.checkpoint import Checkpoint
    from npu.quantized.choice import Roles
    from npu.quantized.quantizing import LayerReport

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu quantize models/qwen -o models/qwen-4bit",
    "npu quantize models/qwen -o models/qwen-mixed --group 32 --layer '*.down_proj=8' --keep-head --report",
    "npu quantize Qwen/Qwen2.5-0.5B-Instruct -o qwen-8bit --bits 8 --exclude 'model.layers.0.*'",
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "folder", help="a folder with config.json and safetensors, or the name of a model in the Hugging Face cache"
    )
    p.add_argument(
        "-o", "--output", type=Path, required=True, help="the folder to write, in the format of MLX; it must be new"
    )
    p.add_argument("--bits", type=int, default=4, help="bits of a weight: 2, 3, 4, 6 or 8 (default: 4)")
    p.add_argument(
        "--group", type=int, default=64, help="weights that share a scale and a bias: 32, 64 or 128 (default: 64)"
    )
    p.add_argument("--keep-embeddings", action="store_true", help="leave the table of embeddings as it is")
    p.add_argument("--keep-head", action="store_true", help="leave the head as it is, unless it is the same table")
    p.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN",
        help="leave layers as they are, such as 'model.layers.0.*'; may be repeated",
    )  # fmt: skip
    p.add_argument(
        "--layer", action="append", default=[], metavar="PATTERN=BITS[:GROUP]",
        help="quantise layers differently, such as '*.down_proj=8'; may be repeated",
    )  # fmt: skip
    p.add_argument(
        "--scale-dtype", choices=["float32", "float16", "bfloat16"],
        help="the dtype of scales and biases (default: that of the weights)",
    )  # fmt: skip
    threads_argument(p)
    p.add_argument(
        "--report", type=integer(1, 10**9), nargs="?", const=20, metavar="N",
        help="show the N layers whose weights have changed most (default: 20)",
    )  # fmt: skip
    json_argument(p)


def run(args: argparse.Namespace) -> int:
    from npu.consoles import ProgressBar
    from npu.quantized.choice import Choice
    from npu.quantized.quantizing import quantize_folder

    choice = Choice(
        args.bits, args.group, not args.keep_embeddings, not args.keep_head, args.exclude, _layers(args.layer),
        args.scale_dtype,
    )  # fmt: skip
    folder = model_folder(args.folder)
    began = time.perf_counter()
    with ProgressBar(sys.stderr.isatty()) as progress:
        report = quantize_folder(folder, args.output, choice, threads=args.threads, progress=progress, roles_of=_roles)
    if args.json:
        print(json.dumps({"output": str(args.output), "layers": [_as_dict(layer) for layer in report]}, indent=2))
        return 0
    _print(args, report, time.perf_counter() - began)
    return 0


def _layers(given: list[str]) -> dict[str, int | tuple[int, int]]:
    layers: dict[str, int | tuple[int, int]] = {}
    for text in given:
        pattern, _, form = text.rpartition("=")
        try:
            numbers = [int(part) for part in form.split(":")]
        except ValueError:
            numbers = []
        if not pattern or len(numbers) not in (1, 2):
            raise InvalidValueError(
                format_error(
                    "npu", "--layer is not understood", got=repr(text), expected="PATTERN=BITS or PATTERN=BITS:GROUP"
                )
            )
        layers[pattern] = numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
    return layers


def _roles(source: Checkpoint) -> Roles:
    """Those of the model that the folder is of, if its weights have the names in the file, with or without a prefix."""
    from npu.commands.pretrained import build_pretrained
    from npu.quantized.choice import roles_of_module

    model = build_pretrained(source.path, "meta")
    roles = roles_of_module(model)
    prefix = f"{model.base_model_prefix}."
    return {
        **{f"{prefix}{name}": role for name, role in roles.items()},
        **{name.removeprefix(prefix): role for name, role in roles.items()},
        **roles,
    }


def _print(args: argparse.Namespace, report: list[LayerReport], seconds: float) -> None:
    from rich.table import Table

    from npu.consoles import output_console

    before, after = sum(layer.plain_bytes for layer in report), sum(layer.bytes for layer in report)
    size = (args.output / "model.safetensors").stat().st_size
    print(
        f"{args.output}: {len(report)} layers quantised, from {before / 1e6:,.1f} to {after / 1e6:,.1f} MB; "
        f"all weights {size / 1e6:,.1f} MB; {seconds:.0f} s"
    )
    if args.report is None:
        return
    table = Table("Layer", "Shape", "Bits", "Group", "SNR (dB)")
    for column in table.columns[2:]:
        column.justify = "right"
    for layer in sorted(report, key=lambda layer: layer.snr)[: args.report]:
        scheme = layer.scheme
        table.add_row(layer.layer, str(list(layer.shape)), str(scheme.bits), str(scheme.group), f"{layer.snr:.1f}")
    output_console().print(table)


def _as_dict(layer: LayerReport) -> dict[str, Any]:
    return {
        "layer": layer.layer, "shape": list(layer.shape), "bits": layer.scheme.bits, "group": layer.scheme.group,
        "scale_dtype": layer.scheme.scale_dtype, "snr_db": layer.snr if isfinite(layer.snr) else None,
        "bytes": layer.bytes, "plain_bytes": layer.plain_bytes,
    }  # fmt: skip
