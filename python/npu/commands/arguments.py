"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from npu_base.commands import SEED, THREADS, usage_error

from npu.commands.sources import Kind, Source, describe_kinds

__all__ = [
    "compute_dtype_argument",
    "device_argument",
    "fallback_argument",
    "input_argument",
    "json_argument",
    "refuse_for",
    "run_arguments",
    "seed_argument",
    "source_argument",
    "threads_argument",
    "weights_arguments",
]


_ABOUT_SOURCES = (
    "ATTRIBUTE is an nn.Module, or a class or a function that makes one without arguments. MODULE is imported from the "
    "current folder or from installed packages, so its code runs. A Hugging Face folder has config.json and, where "
    "weights are needed, safetensors; no code in it runs, and nothing is downloaded."
)


def source_argument(p: argparse.ArgumentParser, takes: Collection[Kind], more: str | None = None) -> None:
    kinds = describe_kinds(takes)
    p.add_argument("source", metavar="SOURCE", help=f"{kinds}; {more}" if more else kinds)
    p.epilog = _ABOUT_SOURCES


def run_arguments(p: argparse.ArgumentParser, takes: Collection[Kind]) -> None:
    """Of commands that run what they are given."""
    source_argument(p, takes)
    input_argument(p, "the size of an input, or its values; others are random, and integers zero; may be repeated")
    weights_arguments(p, "those of the model or saved file, else random")
    device_argument(p)
    threads_argument(p)
    seed_argument(p)
    compute_dtype_argument(p)
    fallback_argument(p)


def input_argument(p: argparse.ArgumentParser, text: str) -> None:
    p.add_argument(
        "--input", action="append", default=[], metavar="[NAME=]SIZES[:DTYPE]|FILE.npy",
        help=f"{text}. Such as 1,3,224,224, ids=1,128:int64 or image=image.npy. Without names, inputs are in order",
    )  # fmt: skip


def weights_arguments(p: argparse.ArgumentParser, default: str) -> None:
    p.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="a .safetensors file, the index of a sharded one, a folder with either, or a .pt file "
        f"(default: {default})",
    )
    p.add_argument(
        "--random-weights",
        action="store_true",
        help="give a model random weights where it has none: built on the meta device, or a folder without weights",
    )


def device_argument(p: argparse.ArgumentParser, more: str = "") -> None:
    p.add_argument("--device", help=f"cpu, cuda, metal or metal:emulated (default: the best available){more}")


def compute_dtype_argument(p: argparse.ArgumentParser) -> None:
    p.add_argument("--compute-dtype", choices=["float16", "bfloat16"], help="compute a float32 model in this dtype")


def fallback_argument(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--fallback", choices=["host", "error"],
        help="of a model or an IR: run what the device lacks on the host (the default), or fail and say what it is",
    )  # fmt: skip


def seed_argument(p: argparse.ArgumentParser) -> None:
    p.add_argument("--seed", type=SEED, default=0, help="the seed of random weights and inputs (default: 0)")


def threads_argument(p: argparse.ArgumentParser) -> None:
    p.add_argument("--threads", type=THREADS, default=0, help="the number of threads (default: all usable cores)")


def json_argument(p: argparse.ArgumentParser) -> None:
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def refuse_for(source: Source, args: argparse.Namespace, options: Collection[str]) -> None:
    """Refuse options that have no effect on a source of this kind."""
    for option in options:
        if getattr(args, option.replace("-", "_"), None):
            kind = source.kind.value.partition(" (")[0]
            what, expected = f"--{option} has no effect on {kind}", "a source that it has an effect on, or none of it"
            got = f"--{option} with {source.text}"
            raise usage_error(what, got, expected)
