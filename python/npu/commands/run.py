"""The command ``npu run``."""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from npu_base.errors import InvalidValueError
from npu_base.files import file_error, make_folder, write_file

from npu.commands.arguments import program_arguments
from npu.commands.programs import inputs_of, open_executor, weights_of

__all__ = ["add_arguments", "run"]


def add_arguments(p: argparse.ArgumentParser) -> None:
    program_arguments(p)
    p.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=FILE.npy",
        help="read an input from a file; may be repeated",
    )
    p.add_argument("-o", "--output", type=Path, help="write each output to a .npy file in this folder")


def run(args: argparse.Namespace) -> int:
    import numpy as np

    executor, saved = open_executor(args)
    weights = weights_of(args, executor, saved)
    outputs = executor.run(inputs_of(executor, args.seed, _read_inputs(executor, args.input)), weights)
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


def _as_npy(array: Any) -> memoryview:
    import numpy as np

    file = io.BytesIO()
    np.save(file, array.astype(np.float32) if array.dtype.kind == "V" else array)
    return file.getbuffer()
