"""The command ``npu run``."""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from npu_base.files import make_folder, write_file

from npu.commands.arguments import run_arguments
from npu.commands.programs import open_runnable
from npu.commands.sources import ANY

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu run net.npu --input image=image.npy -o outputs",
    "npu run my_models:Net --input 1,3,224,224 --device cpu",
    "npu run model.npubin --weights net.safetensors",
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    run_arguments(p, ANY)
    p.add_argument("-o", "--output", type=Path, help="write each output to a .npy file in this folder")


def run(args: argparse.Namespace) -> int:
    import numpy as np

    if args.output:
        make_folder(args.output)  # before the work, which may take minutes
    results = open_runnable(args).results()
    for (name, array), file in zip(results, _file_names([name for name, _ in results]), strict=True):
        values = array.astype(np.float64)
        spread = f"min {values.min():.6g}, mean {values.mean():.6g}, max {values.max():.6g}" if array.size else "empty"
        print(f"{name}: {array.dtype}{list(array.shape)} {spread}")
        if args.output:
            write_file(args.output / f"{file}.npy", _as_npy(array))
    return 0


_LONGEST = 200
"""Bytes of a file's name, of which most systems allow 255."""


def _file_names(names: Sequence[str]) -> list[str]:
    """A different file name for each output. Names of outputs may not be valid ones, or may be equal, also where a
    folder does not tell a from A."""
    files: list[str] = []
    taken: set[str] = set()
    for name in names:
        file = re.sub(r"[^\w.-]", "_", name).lstrip(".").encode()[:_LONGEST].decode(errors="ignore") or "_"
        same = [f"{file}_{i}" for i in range(1, len(names))]
        files.append(next(one for one in [file, *same] if one.casefold() not in taken))
        taken.add(files[-1].casefold())
    return files


def _as_npy(array: Any) -> memoryview:
    import numpy as np

    file = io.BytesIO()
    np.save(file, array.astype(np.float32) if array.dtype.kind == "V" else array)
    return file.getbuffer()
