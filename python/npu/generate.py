"""The command ``npu generate``, and what ``npu chat`` shares with it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from npu_base.errors import InvalidValueError, format_error

from npu.commands.sources import model_folder
from npu.commands.transformers_import import leave_out_torchvision
from npu.consoles import ProgressBar

__all__ = ["full_context", "has_template", "open_generator", "run", "sampling_options", "templated"]


def run(args: argparse.Namespace) -> int:
    if (args.prompt is None) == (args.ids is None):
        got = "neither" if args.ids is None else "both"
        raise InvalidValueError(f"[npu] one prompt is required; got {got}; expected either --prompt or --ids")
    if args.chat and args.ids is not None:
        raise InvalidValueError("[npu] --chat needs a text; got --ids; expected --prompt")
    started = _since_process_start()
    encoded: list[Any] = []

    def check(generator: Any) -> None:
        encoded.append(_prompt(args, generator))
        generator.encode(encoded[0])

    generator = open_generator(args, check, buckets=[1])
    before = sum(generator.timings.values())
    result = _generate(args, generator, encoded[0])
    if args.stats:
        _stats(generator, result, started, sum(generator.timings.values()) - before)
    return 0


def open_generator(args: argparse.Namespace, check: Callable[[Any], None], buckets: Iterable[int] | None) -> Any:
    """The generator of the arguments, with programs for these buckets. ``check`` reports mistakes before compiling."""
    folder = model_folder(args.folder)
    leave_out_torchvision()
    began = time.perf_counter()
    from npu.generation import Generator

    imported = time.perf_counter() - began
    with ProgressBar(sys.stderr.isatty()) as progress:
        generator = Generator.from_pretrained(
            folder, capacity=args.capacity, device=args.device, threads=args.threads, dtype=args.dtype,
            cache_dtype=args.cache_dtype, progress=progress, cache=args.cache or not args.no_cache,
        )  # fmt: skip
        check(generator)
        generator.prepare(buckets=buckets)
    generator.timings["import"] = generator.timings.get("import", 0.0) + imported
    return generator


def sampling_options(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "temperature": args.temperature, "top_k": args.top_k, "top_p": args.top_p,
        "repetition_penalty": args.repetition_penalty, "stop_strings": args.stop,
    }  # fmt: skip


def templated(generator: Any, messages: list[dict[str, str]], needed_by: str, folder: Any) -> list[int]:
    """The tokens of a conversation in the form that the model was trained with."""
    if not has_template(generator):
        problem = "no tokenizer" if generator.tokenizer is None else "a tokenizer without a chat template"
        raise InvalidValueError(
            f"[npu] {needed_by} needs a tokenizer with a chat template; {folder} has {problem}; try --raw"
        )
    try:
        tokens: list[int] = generator.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
    except Exception as error:  # a template is a program of its own, which may raise anything
        cause = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        what, action = f"the chat template of {folder} fails", "--raw, which does without it"
        raise InvalidValueError(format_error("npu", what, got=cause, action=action)) from error
    return tokens


def has_template(generator: Any) -> bool:
    return bool(getattr(generator.tokenizer, "chat_template", None))


def full_context(generator: Any) -> str:
    """What to say when the caches are full."""
    if generator.capacity == generator.positions:
        return f"All {generator.positions} positions of the model are used"
    return f"All {generator.capacity} tokens of the capacity are used; try a larger --capacity"


def _prompt(args: argparse.Namespace, generator: Any) -> Any:
    if args.ids is not None:
        try:
            parts = args.ids.split(",") if args.ids.strip() else []
            return [int(number) for part in parts for number in part.split() or [part]]  # int() refuses an empty part
        except ValueError:
            raise InvalidValueError(f"[npu] --ids must be numbers separated by commas; got {args.ids!r}") from None
    if args.chat or (has_template(generator) and not args.raw):
        return templated(generator, [{"role": "user", "content": args.prompt}], "--chat", args.folder)
    return args.prompt


def _generate(args: argparse.Namespace, generator: Any, prompt: Any) -> Any:
    printed = 0

    def show(piece: Any) -> None:
        nonlocal printed
        text = piece.text if generator.tokenizer is not None else (", " if printed else "") + str(piece.token)
        printed += 1
        print(text, end="", flush=True)

    result = generator.generate(prompt, args.tokens, on_token=show, seed=args.seed, **sampling_options(args))
    print()
    if result.finish == "capacity":
        print(f"{full_context(generator)}.", file=sys.stderr)
    return result


_STAGES = (
    ("import", "import"),
    ("model", "model without weights"),
    ("tokenizer", "tokenizer"),
    ("extract", "extract"),
    ("compile", "compile"),
    ("load", "load and prepare weights"),
)


def _stats(generator: Any, result: Any, started: float, late: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("Stage", "Seconds", "Tokens", "Tokens/s")
    table.columns[1].justify = table.columns[2].justify = table.columns[3].justify = "right"
    table.add_row("process start", f"{started:.3f}", "", "")
    for key, name in _STAGES:
        table.add_row(name, f"{generator.timings.get(key, 0.0):.3f}", "", "")
    prompt = max(result.prompt_seconds - late, 1e-9)  # without the time to compile programs for the prompt
    table.add_row("prompt", f"{prompt:.3f}", str(result.prompt_tokens), f"{result.prompt_tokens / prompt:.1f}")
    rest, count = result.seconds - result.prompt_seconds, len(result.tokens) - 1
    if count > 0 and rest > 0:
        table.add_row("tokens after the first", f"{rest:.3f}", str(count), f"{count / rest:.1f}")
    console = Console(stderr=True)
    console.print(table)
    megabytes = generator.weights.prepared_bytes / 1e6
    console.print(
        f"{generator.device.kind} ({generator.device.name}): caches {generator.cache_bytes / 1e6:.1f} MB for "
        f"{generator.capacity} tokens, prepared weights {megabytes:.1f} MB"
    )


def _since_process_start() -> float:
    """Seconds since the process started if the system tells (Linux), else its processor time."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return max(0.0, uptime - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return time.process_time()
