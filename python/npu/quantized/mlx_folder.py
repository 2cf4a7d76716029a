"""Writes a folder as MLX has them, one tensor after another."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from npu_base.errors import InternalError
from npu_base.files import write_file, write_folder_with
from npu_base.quantization import Scheme

from npu.quantized.checkpoint import QUANTIZATION_KEYS
from npu.quantized.errors import refuse
from npu.quantized.mlx import GROUPS
from npu.quantized.stored import CODES
from npu.quantized.tensors import FLOATS, QuantizedTensor
from npu.saving.tensors import TensorLayout, tensor_layout

__all__ = ["Planned", "write_mlx"]

_COPIED = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
_NOT_COPIED = ("config.json", "*.index.json")
_SUFFIX = ".weight"

Planned = tuple[tuple[int, ...], np.dtype[Any] | Scheme]
"""The shape of a tensor, and its dtype or, if it is quantised, its scheme."""


def write_mlx(
    folder: str | os.PathLike[str],
    config: Mapping[str, Any],
    planned: Mapping[str, Planned],
    tensors: Iterable[tuple[str, npt.NDArray[Any] | QuantizedTensor]],
    beside: Path | None = None,
) -> None:
    """Write a new folder, or none: ``tensors`` are written as they come, and must be all that is planned.

    The other files of a model, such as its tokenizer, are copied from ``beside``.
    """
    for name, (shape, kind) in planned.items():
        if isinstance(kind, Scheme):
            _check_scheme(name, shape, kind)
    layout = tensor_layout({name: part for n, p in planned.items() for name, part in _parts(n, *p)}, "mlx")
    settings = _settings({name: kind for name, (_, kind) in planned.items() if isinstance(kind, Scheme)})
    plain = {key: value for key, value in config.items() if key not in QUANTIZATION_KEYS}
    text = json.dumps({**plain, **{key: settings for key in QUANTIZATION_KEYS[:2] if settings}}, indent=2)

    def write(target: Path) -> None:
        with open(target / "model.safetensors", "wb") as file:
            _write_tensors(file, layout, planned, tensors)
        write_file(target / "config.json", text + "\n")
        for path in _files(beside):
            shutil.copyfile(path, target / path.name)

    write_folder_with(folder, write)


def _check_scheme(name: str, shape: tuple[int, ...], scheme: Scheme) -> None:
    where = f"tensor '{name}'"
    if not name.endswith(_SUFFIX):
        refuse(where, "MLX quantises nothing of this name", expected=f"a name that ends with '{_SUFFIX}'")
    if scheme.offset != "bias" or scheme.signed or scheme.unit or scheme.scale_dtype != scheme.offset_dtype:
        refuse(where, "MLX has no such scheme", got=str(scheme), expected="unsigned integers, biases like scales")
    if scheme.group not in GROUPS or shape[-1] % scheme.group:
        expected = f"one of {', '.join(map(str, GROUPS))}, and a divisor of {shape[-1]}"
        refuse(where, "MLX has no such groups", got=scheme.group, expected=expected)


def _parts(name: str, shape: tuple[int, ...], kind: np.dtype[Any] | Scheme) -> list[tuple[str, tuple[str, Any, int]]]:
    """The tensors in the file, with dtype, shape and bytes."""
    if not isinstance(kind, Scheme):
        if kind.name not in CODES:
            refuse(f"tensor '{name}'", "has a dtype that is not supported", got=kind.name)
        return [(name, (CODES[kind.name], shape, prod(shape) * kind.itemsize))]
    layer, rows = name.removesuffix(_SUFFIX), shape[:-1]
    words, groups = kind.row_bytes(shape[-1]) // 4, kind.groups(shape[-1])
    size = prod(rows) * groups * np.dtype(FLOATS[kind.scale_dtype]).itemsize
    per_group = (CODES[kind.scale_dtype], (*rows, groups), size)
    weight = ("U32", (*rows, words), prod(rows) * words * 4)
    return [(name, weight), (f"{layer}.scales", per_group), (f"{layer}.biases", per_group)]


def _settings(schemes: Mapping[str, Scheme]) -> dict[str, Any]:
    """What most layers have, and what others have instead."""
    if not schemes:
        return {}
    forms = {name.removesuffix(_SUFFIX): (scheme.group, scheme.bits) for name, scheme in schemes.items()}
    usual = Counter(forms.values()).most_common(1)[0][0]
    keys = ("group_size", "bits")
    others = {layer: dict(zip(keys, form, strict=True)) for layer, form in forms.items() if form != usual}
    return {**dict(zip(keys, usual, strict=True)), "mode": "affine", **others}


def _write_tensors(
    file: BinaryIO,
    layout: TensorLayout,
    planned: Mapping[str, Planned],
    tensors: Iterable[tuple[str, npt.NDArray[Any] | QuantizedTensor]],
) -> None:
    file.write(layout.header)
    left = set(planned)
    for name, tensor in tensors:
        left.remove(name)
        arrays = [array for _, array in tensor.parts(name)] if isinstance(tensor, QuantizedTensor) else [tensor]
        for (part, (_, _, size)), array in zip(_parts(name, *planned[name]), arrays, strict=True):
            file.seek(layout.offsets[part])
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            if data.nbytes != size:
                raise InternalError(f"[quantized] tensor '{part}' has {data.nbytes} bytes; expected {size}")
            file.write(data)
    if left:
        raise InternalError(f"[quantized] tensors are missing: {sorted(left)[:5]}")


def _files(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    found = {path for pattern in _COPIED for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not any(path.match(pattern) for pattern in _NOT_COPIED))
