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
from npu_base.files import read_file

from npu.commands.arguments import json_argument, threads_argument
from npu.commands.sources import model_folder

if TYPE_CHECKING:
    from npu.quantized.checkpoint import Checkpoint
    from npu.quantized.choice import Roles
    from npu.quantized.effects import Effects
    from npu.quantized.quantizing import LayerReport

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu quantize models/qwen -o models/qwen-4bit",
    "npu quantize models/qwen -o models/qwen-mixed --group 32 --layer '*.down_proj=8' --keep-head --report",
    "npu quantize Qwen/Qwen2.5-0.5B-Instruct -o qwen-8bit --bits 8 --exclude 'model.layers.0.*'",
    "npu quantize models/qwen -o models/qwen-4bit --prompt 'Why is the sky blue?' --prompts questions.txt",
)

_MOST_LAYERS = 20


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
        "--report", type=integer(1, 10**9), nargs="?", const=_MOST_LAYERS, metavar="N",
        help="show the N layers whose weights have changed most (default: 20)",
    )  # fmt: skip
    p.add_argument(
        "--prompt", action="append", default=[], metavar="TEXT",
        help="report what changes in the outputs of layers and of the model on this text; may be repeated",
    )  # fmt: skip
    p.add_argument("--prompts", type=Path, metavar="FILE", help="the same on each line of a text file")
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
    prompts = _prompts(args, folder)  # before the work, which may take minutes
    began = time.perf_counter()
    with ProgressBar(sys.stderr.isatty()) as progress:
        report = quantize_folder(folder, args.output, choice, threads=args.threads, progress=progress, roles_of=_roles)
        effects = _measure(folder, args.output, prompts, progress) if prompts else None
    if args.json:
        said: dict[str, Any] = {"output": str(args.output), "layers": [_as_dict(layer, effects) for layer in report]}
        if effects is not None:
            said["on_prompts"] = {
                "tokens": effects.tokens, "divergence": effects.divergence, "agreement": effects.agreement,
            }  # fmt: skip
        print(json.dumps(said, indent=2))
        return 0
    _print(args, report, effects, time.perf_counter() - began)
    return 0


def _prompts(args: argparse.Namespace, folder: Path) -> list[list[int]]:
    """The tokens of each."""
    texts = list(args.prompt)
    if args.prompts is not None:
        texts += _lines(args.prompts)
    if not texts:
        return []
    from npu.commands.pretrained import build_pretrained
    from npu.generation.pretrained import tokenizer_of
    from npu.quantized.effects import stored_names
    from npu.quantized.opening import open_checkpoint

    source = open_checkpoint(folder)
    stored_names(build_pretrained(source.path, "meta"), source)
    tokenizer = tokenizer_of(folder)
    if tokenizer is None:
        what, action = f"prompts need a tokenizer, and {folder} has none", "leaving out --prompt"
        raise InvalidValueError(format_error("npu", what, action=action))
    prompts = [tokenizer(text)["input_ids"] for text in texts]
    empty = next((text for text, tokens in zip(texts, prompts, strict=True) if not tokens), None)
    if empty is not None:
        raise InvalidValueError(format_error("npu", "a prompt has no tokens", got=repr(empty)))
    return prompts


def _lines(path: Path) -> list[str]:
    data = read_file(path, "the file of prompts does not exist")
    try:
        lines = [line for line in data.decode().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InvalidValueError(format_error("npu", f"{path} is not text in UTF-8", got=str(error))) from error
    if not lines:
        raise InvalidValueError(format_error("npu", f"{path} has no prompts", expected="a text on each line"))
    return lines


def _measure(folder: Path, output: Path, prompts: list[list[int]], progress: Any) -> Effects:
    from npu.commands.pretrained import build_pretrained
    from npu.quantized.effects import measure
    from npu.quantized.opening import open_checkpoint

    model = build_pretrained(folder, "meta")
    return measure(model, open_checkpoint(folder), open_checkpoint(output), prompts, progress)


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


def _print(args: argparse.Namespace, report: list[LayerReport], effects: Effects | None, seconds: float) -> None:
    from rich.table import Table

    from npu.consoles import output_console

    before, after = sum(layer.plain_bytes for layer in report), sum(layer.bytes for layer in report)
    size = (args.output / "model.safetensors").stat().st_size
    print(
        f"{args.output}: {len(report)} layers quantised, from {before / 1e6:,.1f} to {after / 1e6:,.1f} MB; "
        f"all weights {size / 1e6:,.1f} MB; {seconds:.0f} s"
    )
    if effects is not None:
        print(
            f"on {effects.tokens} tokens: KL divergence {effects.divergence:.4f}, "
            f"the same most likely token after {effects.agreement:.1%}"
        )
    if args.report is None and effects is None:
        return
    outputs = {} if effects is None else effects.layers
    table = Table("Layer", "Shape", "Bits", "Group", "SNR (dB)", *(["Outputs (dB)"] if effects else []))
    for column in table.columns[2:]:
        column.justify = "right"
    for layer in sorted(report, key=lambda layer: outputs.get(layer.layer, layer.snr))[: args.report or _MOST_LAYERS]:
        scheme, ratio = layer.scheme, outputs.get(layer.layer)
        more = [] if effects is None else ["not run" if ratio is None else f"{ratio:.1f}"]
        numbers = [str(scheme.bits), str(scheme.group), f"{layer.snr:.1f}", *more]
        table.add_row(layer.layer, str(list(layer.shape)), *numbers)
    output_console().print(table)


def _as_dict(layer: LayerReport, effects: Effects | None) -> dict[str, Any]:
    ratio = None if effects is None else effects.layers.get(layer.layer)
    return {
        "layer": layer.layer, "shape": list(layer.shape), "bits": layer.scheme.bits, "group": layer.scheme.group,
        "scale_dtype": layer.scheme.scale_dtype, "snr_db": layer.snr if isfinite(layer.snr) else None,
        "bytes": layer.bytes, "plain_bytes": layer.plain_bytes,
        **({} if effects is None else {"output_snr_db": ratio if ratio is not None and isfinite(ratio) else None}),
    }  # fmt: skip
