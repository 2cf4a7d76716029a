"""The command ``npu generate``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from npu_base.errors import InvalidValueError

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    if (args.prompt is None) == (args.ids is None):
        raise InvalidValueError("[npu] a prompt is required; expected either --prompt or --ids")
    if args.chat and args.ids is not None:
        raise InvalidValueError("[npu] --chat needs a text; got --ids; expected --prompt")
    _leave_out_torchvision()
    started = _since_process_start()
    began = time.perf_counter()
    from npu.generation import Generator

    imported = time.perf_counter() - began
    return _run(args, Generator, started, imported)


def _run(args: argparse.Namespace, generators: Any, started: float, imported: float) -> int:
    with _Progress(sys.stderr.isatty()) as progress:
        generator = generators.from_pretrained(
            args.folder, capacity=args.capacity, device=args.device, threads=args.threads, dtype=args.dtype,
            progress=progress, cache=args.cache or not args.no_cache,
        )  # fmt: skip
        prompt = _prompt(args, generator)
        generator.encode(prompt)  # report a wrong prompt before compiling
        generator.prepare(buckets=[1])
    generator.timings["import"] = generator.timings.get("import", 0.0) + imported
    before = sum(generator.timings.values())
    result = _generate(args, generator, prompt)
    if args.stats:
        _stats(generator, result, started, sum(generator.timings.values()) - before)
    return 0


def _leave_out_torchvision() -> None:
    """transformers imports torchvision if it is installed. That takes a second, and text does not need it."""
    if "torchvision" not in sys.modules:
        sys.modules["torchvision"] = None  # type: ignore[assignment]


def _prompt(args: argparse.Namespace, generator: Any) -> Any:
    if args.ids is not None:
        try:
            parts = args.ids.split(",") if args.ids.strip() else []
            return [int(number) for part in parts for number in part.split() or [part]]  # int() refuses an empty part
        except ValueError:
            raise InvalidValueError(f"[npu] --ids must be numbers separated by commas; got {args.ids!r}") from None
    if args.chat:
        if not getattr(generator.tokenizer, "chat_template", None):
            problem = "no tokenizer" if generator.tokenizer is None else "a tokenizer without a chat template"
            raise InvalidValueError(f"[npu] --chat needs a tokenizer with a chat template; {args.folder} has {problem}")
        messages = [{"role": "user", "content": args.prompt}]
        return generator.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return args.prompt


def _generate(args: argparse.Namespace, generator: Any, prompt: Any) -> Any:
    printed = 0

    def show(piece: Any) -> None:
        nonlocal printed
        text = piece.text if generator.tokenizer is not None else (", " if printed else "") + str(piece.token)
        printed += 1
        print(text, end="", flush=True)

    result = generator.generate(
        prompt, args.tokens, on_token=show, temperature=args.temperature, top_k=args.top_k, top_p=args.top_p,
        repetition_penalty=args.repetition_penalty, seed=args.seed, stop_strings=args.stop,
    )  # fmt: skip
    print()
    if result.finish == "capacity":
        if generator.capacity == generator.positions:
            print(f"All {generator.positions} positions of the model are used.", file=sys.stderr)
        else:
            print(
                f"All {generator.capacity} tokens of the capacity are used; try a larger --capacity.", file=sys.stderr
            )
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


class _Progress:
    """A progress bar, if stderr is a terminal."""

    def __init__(self, visible: bool) -> None:
        self._visible, self._what = visible, ""
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> _Progress:
        if self._visible:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._bar.start()
        return self

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._bar is None:
            return
        if what != self._what:
            self._what = what
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(what, total=total)
        self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
