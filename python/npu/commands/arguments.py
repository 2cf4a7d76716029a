"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path

from npu_base.commands import SEED, THREADS

__all__ = [
    "ir_argument",
    "json_argument",
    "program_arguments",
    "seed_argument",
    "threads_argument",
    "weights_argument",
]


def ir_argument(p: argparse.ArgumentParser, verb: str) -> None:
    p.add_argument("ir", type=Path, help=f"the IR file (.json), or the saved file (.npu) with the IR, to {verb}")


def program_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("program", type=Path, help="the program (.npubin) or saved file (.npu) to run")
    weights_argument(p)
    p.add_argument("--device", help="cpu, cuda, metal or metal:emulated (default: the best available)")
    threads_argument(p)
    seed_argument(p)


def weights_argument(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--weights",
        type=Path,
        help="a .safetensors file, the index of a sharded one, a folder with either, or a .pt file "
        "(default: those of a saved file, else random)",
    )


def seed_argument(p: argparse.ArgumentParser) -> None:
    p.add_argument("--seed", type=SEED, default=0, help="the seed of random weights and inputs (default: 0)")


def threads_argument(p: argparse.ArgumentParser) -> None:
    p.add_argument("--threads", type=THREADS, default=0, help="the number of threads (default: all usable cores)")


def json_argument(p: argparse.ArgumentParser) -> None:
    p.add_argument("--json", action="store_true", help="print JSON instead of text")
