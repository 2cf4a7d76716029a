"""The --input of commands: sizes for a random input, or a .npy file. Without PyTorch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from zipfile import BadZipFile

from npu_base.commands import usage_error
from npu_base.errors import InvalidValueError, format_error
from npu_base.files import file_error
from npu_base.specs import TensorSpec

from npu.random_tensors import random_inputs

__all__ = ["OPEN_SIZE", "GivenInput", "arrays_of", "parse_inputs", "read_array", "shapes_of"]

DTYPES = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
_FORM = re.compile(r"(?:([^=]*)=)?(.*)", re.DOTALL)
OPEN_SIZE = re.compile(r"(?:(\d+)\*)?([A-Za-z_]\w*)(?:([+-])(\d+))?")
_EXTENT = rf"(?:\d+|{re.sub(r'[(](?![?])', '(?:', OPEN_SIZE.pattern)})"
_SIZES = re.compile(rf"(scalar|{_EXTENT}(?:,{_EXTENT})*)(?::(\w+))?")
_EXPECTED = "[NAME=]SIZES[:DTYPE] or [NAME=]FILE.npy, such as 1,3,224,224 or input_ids=1,128:int64 or image=image.npy"
_LARGEST = 1 << 40  # elements; more is a typo, and would fail for memory first


@dataclass(frozen=True)
class GivenInput:
    """One --input. Those without a name are for the model's inputs in order. Either ``shape`` or ``file`` is given;
    ``dtype`` is None if the user named none. An extent that is open is a text."""

    text: str
    name: str | None
    shape: tuple[Any, ...] = ()
    dtype: str | None = None
    file: Path | None = None


def parse_inputs(texts: Sequence[str], *, with_open_sizes: bool = False) -> list[GivenInput]:
    given = [_parse(text) for text in texts]
    for one in given:
        if not with_open_sizes and not all(isinstance(n, int) for n in one.shape):
            expected = f"{_EXPECTED}; `npu compile` takes names of sizes too"
            raise usage_error("--input has no valid form", repr(one.text), expected)
    names = [one.name for one in given if one.name is not None]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise usage_error("an input is given twice", twice, "each input once")
    positions = [i for i, one in enumerate(given) if one.name is None]
    if positions != list(range(len(positions))):
        got = given[positions[-1]].text
        raise usage_error("an --input without a name follows one with a name", got, "those without first")
    return given


def _parse(text: str) -> GivenInput:
    match = _FORM.fullmatch(text)
    assert match is not None
    name, rest = match.groups()
    if name == "":
        raise usage_error("--input has no valid form", repr(text), _EXPECTED)
    sizes = _SIZES.fullmatch(rest)
    if sizes is None:
        if not rest.endswith((".npy", ".npz")) and not Path(rest).is_file():
            raise usage_error("--input has no valid form", repr(text), _EXPECTED)
        return GivenInput(text, name, file=Path(rest))
    if sizes[2] is not None and sizes[2] not in DTYPES:
        raise usage_error("--input has no valid dtype", repr(text), f"one of {', '.join(DTYPES)}")
    extents = () if sizes[1] == "scalar" else sizes[1].split(",")
    shape = tuple(int(size) if size.isdigit() else size for size in extents)
    if math.prod(n for n in shape if isinstance(n, int)) > _LARGEST:
        raise usage_error("--input is too large", repr(text), f"at most {_LARGEST} elements")
    return GivenInput(text, name, shape, sizes[2])


def shapes_of(given: Sequence[GivenInput], names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """By the names of inputs, of which ``names`` has all in order."""
    unnamed = [one for one in given if one.name is None]
    if len(unnamed) > len(names):
        _refuse("there are more --input than inputs", len(unnamed), f"{len(names)}: {', '.join(names)}")
    pairs = [*zip(names, unnamed, strict=False), *((one.name or "", one) for one in given if one.name is not None)]
    return {name: one.shape if one.file is None else read_array(one.file).shape for name, one in pairs}


def arrays_of(given: Sequence[GivenInput], specs: Iterable[Any], seed: int) -> dict[str, Any]:
    """Arrays for a program's inputs: those that are given, and random ones for the others.

    State begins with the values that the model has, unless it is given by its name.
    """
    by_name: dict[str, TensorSpec] = {}
    states: dict[str, TensorSpec] = {}
    for spec in specs:
        kind = states if getattr(spec, "state", False) else by_name
        kind[spec.name] = TensorSpec(spec.name, spec.shape, spec.dtype)
    names = ", ".join(by_name)
    unnamed = [one for one in given if one.name is None]
    if len(unnamed) > len(by_name):
        _refuse("there are more --input than inputs", len(unnamed), f"{len(by_name)}: {names}")
    files = {}
    pairs = [*zip(by_name, unnamed, strict=False), *((one.name, one) for one in given if one.name is not None)]
    for i, (name, one) in enumerate(pairs):
        if name in states:
            by_name[name] = states[name]
        if name not in by_name:
            _refuse("the program has no such input", name, f"one of {names}")
        if any(name == other for other, _ in pairs[:i]):
            _refuse("an input is given twice", name, "each input once")
        dtype = one.dtype or by_name[name].dtype
        by_name[name] = TensorSpec(name, one.shape, dtype)
        if one.file is not None:
            files[name] = read_array(one.file, dtype)
    return random_inputs(by_name.values(), seed, files)


def read_array(path: Path, dtype: str | None = None) -> Any:
    """The array in a .npy file. ``dtype`` is that of the input: the format has no bfloat16."""
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise file_error("read", path, error) from error
    except (ValueError, EOFError, BadZipFile) as error:
        raise InvalidValueError(f"[npu] {path} is not a valid .npy file: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InvalidValueError(f"[npu] {path} contains several arrays; expected a .npy file, which contains one")
    return _as_bfloat16(array) if dtype == "bfloat16" else array


def _as_bfloat16(array: Any) -> Any:
    """Such a file has raw bits, or float32 as `run -o` writes it."""
    import ml_dtypes

    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        return array.view(ml_dtypes.bfloat16)
    return array.astype(ml_dtypes.bfloat16) if array.dtype.name == "float32" else array


def _refuse(what: str, got: object, expected: str) -> NoReturn:
    raise InvalidValueError(format_error("npu", what, got=got, expected=expected))
