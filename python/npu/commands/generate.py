"""The command ``npu generate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from npu_base.commands import SEED, integer

from npu.commands.arguments import device_argument, threads_argument

__all__ = ["EXAMPLES", "add_arguments", "folder_argument", "generator_arguments", "run", "sampling_arguments"]

EXAMPLES = (
    'npu generate Qwen/Qwen2.5-0.5B-Instruct --prompt "Why is the sky blue?"',
    'npu generate models/gpt2 --prompt "Once upon a time" --temperature 0.8 --top-p 0.95 --tokens 200',
    "npu generate models/llama --ids 1,15,27 --stats",
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    folder_argument(p)
    p.add_argument("--prompt", help="the text to continue; a message to answer if there is a chat template")
    p.add_argument("--ids", metavar="1,2,3", help="the tokens to continue, instead of --prompt; needs no tokenizer")
    form = p.add_mutually_exclusive_group()
    form.add_argument("--raw", action="store_true", help="continue the prompt as it is, without the chat template")
    form.add_argument("--chat", action="store_true", help="fail if the tokenizer has no chat template")
    p.add_argument("--tokens", type=integer(1, 10**9), default=128, help="the maximum number of tokens (default: 128)")
    sampling_arguments(p)
    generator_arguments(p)
    p.add_argument("--stats", action="store_true", help="show where the time went")


def folder_argument(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "folder", help="a folder with config.json, safetensors and, for text, a tokenizer; a .gguf file; or the name "
        "of a model in the Hugging Face cache",
    )  # fmt: skip


def sampling_arguments(p: argparse.ArgumentParser) -> None:
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


def generator_arguments(p: argparse.ArgumentParser) -> None:
    device_argument(p)
    threads_argument(p)
    p.add_argument(
        "--capacity", type=integer(1, 10**9), help="the number of tokens that the caches hold (default: at most 2048)"
    )
    p.add_argument(
        "--dtype", choices=["float32", "float16", "bfloat16"], help="compute in this dtype (default: the checkpoint's)"
    )
    p.add_argument(
        "--cache-dtype", choices=["int8"],
        help="keep keys and values in int8, with a scale for each row: half the memory of bfloat16, and rounded "
        "(default: the model's dtype)",
    )  # fmt: skip
    p.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="the folder for compiled programs (default: ~/.cache/npu)"
    )
    p.add_argument("--no-cache", action="store_true", help="compile all programs, and do not cache them")


def run(args: argparse.Namespace) -> int:
    from npu.generate import run as generate

    return generate(args)
