"""The command ``npu chat``."""

from __future__ import annotations

import argparse

from npu_base.commands import integer

from npu.commands.generate import folder_argument, generator_arguments, sampling_arguments

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu chat Qwen/Qwen2.5-0.5B-Instruct",
    'npu chat models/llama --system "You answer in one sentence." --temperature 0.7 --capacity 4096',
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    folder_argument(p)
    p.add_argument("--system", metavar="TEXT", help="what the model is told before the conversation")
    p.add_argument("--raw", action="store_true", help="put messages on lines of their own, without a chat template")
    p.add_argument(
        "--tokens", type=integer(1, 10**9), help="the maximum number of tokens of an answer (default: what fits)"
    )
    sampling_arguments(p)
    generator_arguments(p)


def run(args: argparse.Namespace) -> int:
    from npu.chat import run as chat

    return chat(args)
